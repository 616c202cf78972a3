/* The CSV rows of data.binance.vision's trade archives: into a feed's row, or into columns; see streamer/archive.py and
   local/evaluation/columns.py.

   trades: id, price, qty, quote_qty, time, is_buyer_maker; aggTrades: id, price, qty, first, last, time, is_buyer_maker;
   whatever follows is not read. `flag` is the flag's column, 5 or 6. Only rows of the archive's own form are taken, and
   only values that the row parser in Python would read the same; each other row is left to it. */

#include "feed.h"

static const int64_t EARLIEST_MS = 1230768000000, LATEST_MS = 4102444800000; /* 2009 and 2100 */
static const int64_t MICROSECONDS_FROM = 100000000000000;
static const int64_t EXACT = 1LL << 53; /* integers below are exact as doubles */

/* As `decimal`, but whole numbers may lack the point. */
ALWAYS_INLINE int amount(const char **at, const char *end, double *value, int64_t *units) {
    const char *from = *at;
    if (decimal(at, end, value, units)) return 1;
    int64_t number;
    *at = from;
    if (!whole(at, end, &number) || !number || *at - from > 15 || *at == end || **at != ',') return 0;
    *value = (double)number;
    return !__builtin_mul_overflow(number, TENS[0], units);
}

ALWAYS_INLINE int pass_cell(const char **at, const char *end) {
    while (*at < end && **at != ',' && **at != '\n') (*at)++;
    return *at < end && *(*at)++ == ',';
}

/* Read the row at `at`; return where the next one begins, NULL when it is not plain. */
ALWAYS_INLINE const char *read_row(const char *at, const char *end, int flag, Parsed *out) {
    if (!whole(&at, end, &out->id) || !SKIP(",") || !amount(&at, end, &out->price, &out->price_units) || !SKIP(",") ||
        !amount(&at, end, &out->quantity, &out->units) || !SKIP(","))
        return NULL;
    for (int cell = 3; cell < flag - 1; cell++)
        if (!pass_cell(&at, end)) return NULL;
    if (!whole(&at, end, &out->event_ms) || !SKIP(",")) return NULL;
    if (out->event_ms >= MICROSECONDS_FROM) out->event_ms /= 1000;
    if (out->event_ms < EARLIEST_MS || out->event_ms >= LATEST_MS) return NULL;
    if (SKIP("true") || SKIP("True") || SKIP("TRUE")) out->maker = 1;
    else if (SKIP("false") || SKIP("False") || SKIP("FALSE")) out->maker = 0;
    else return NULL;
    if (at < end && *at == ',') {
        at = memchr(at, '\n', (size_t)(end - at));
        return at ? at + 1 : NULL;
    }
    if (at < end && *at == '\r') at++;
    return at < end && *at == '\n' ? at + 1 : NULL;
}

static int sound_flag(int flag) {
    if (flag == 5 || flag == 6) return 1;
    PyErr_SetString(PyExc_ValueError, "the flag stands in column 5 or 6");
    return 0;
}

/* take_rows(row, text, start, flag, since_ms, until_ms, newest_ms) -> (next, rows, newest_ms, fired, beyond)

   `text` holds whole lines. Rows with a time outside [since_ms, until_ms) are counted and passed over. `next` is where
   the first row begins that was not taken; each of `fired` begins with its row's number from `start`. `beyond`: that
   row, if it is plain and only its time lies outside the open window, beginning with where the next one begins. */
PyObject *Feed_take_rows(Feed *self, PyObject *args) {
    Py_ssize_t number, start;
    Py_buffer text;
    int flag;
    long long since_ms, until_ms, newest;
    if (!PyArg_ParseTuple(args, "ny*niLLL", &number, &text, &start, &flag, &since_ms, &until_ms, &newest)) return NULL;
    Row *row = row_of(self, number);
    if (!row || !sound_flag(flag) || start < 0 || start > text.len) {
        PyBuffer_Release(&text);
        if (!PyErr_Occurred()) PyErr_SetString(PyExc_ValueError, "outside the text");
        return NULL;
    }
    const char *begin = text.buf, *at = begin + start, *end = begin + text.len;
    int64_t newest_ms = newest, before = 0;
    Py_ssize_t rows = 0;
    PyObject *fired = PyList_New(0), *beyond = NULL;
    for (int failed = !fired; !failed && at < end;) {
        Parsed trade;
        const char *next = read_row(at, end, flag, &trade);
        if (!next) break;
        if (trade.event_ms >= since_ms && trade.event_ms < until_ms) {
            int what = absorb(row, &trade, &newest_ms, &before);
            if (what == BEYOND) beyond = trade_values(next - begin, &trade, 0);
            if (what != TAKEN && what != FIRED) break;
            if (what == FIRED) failed = append(fired, trade_values(rows, &trade, before));
        }
        rows++;
        at = next;
    }
    PyBuffer_Release(&text);
    if (PyErr_Occurred()) {
        Py_XDECREF(fired);
        Py_XDECREF(beyond);
        return NULL;
    }
    return Py_BuildValue("(nnLNN)", at - begin, rows, (long long)newest_ms, fired, beyond ? beyond : Py_NewRef(Py_None));
}

/* columns(text, flag) -> (ids, prices, quantities, times_ms, sells), packed int64 (sells: one byte each), prices and
   quantities in units of 1e-8; None when a row is not plain or a value is not exact as a double. */
static PyObject *columns(PyObject *module, PyObject *args) {
    Py_buffer text;
    int flag;
    (void)module;
    if (!PyArg_ParseTuple(args, "y*i", &text, &flag)) return NULL;
    if (!sound_flag(flag)) {
        PyBuffer_Release(&text);
        return NULL;
    }
    const char *at = text.buf, *end = at + text.len;
    Py_ssize_t count = 0, rows = 0;
    for (const char *line = at; line < end && (line = memchr(line, '\n', (size_t)(end - line))); line++) count++;
    PyObject *parts[5] = {NULL}, *made = NULL;
    int whole_text = 1;
    for (int n = 0; n < 5; n++) {
        parts[n] = PyBytes_FromStringAndSize(NULL, count * (n < 4 ? 8 : 1));
        if (!parts[n]) goto done;
    }
    int64_t *out[4];
    for (int n = 0; n < 4; n++) out[n] = (int64_t *)PyBytes_AS_STRING(parts[n]);
    char *sells = PyBytes_AS_STRING(parts[4]);
    while (at < end && rows < count) {
        Parsed trade;
        at = read_row(at, end, flag, &trade);
        if (!at || trade.price_units >= EXACT || trade.units >= EXACT) {
            whole_text = 0;
            break;
        }
        out[0][rows] = trade.id;
        out[1][rows] = trade.price_units;
        out[2][rows] = trade.units;
        out[3][rows] = trade.event_ms;
        sells[rows++] = (char)trade.maker;
    }
    made = whole_text && rows == count && at == end ? Py_BuildValue("(OOOOO)", parts[0], parts[1], parts[2], parts[3], parts[4])
                                                    : Py_NewRef(Py_None);
done:
    for (int n = 0; n < 5; n++) Py_XDECREF(parts[n]);
    PyBuffer_Release(&text);
    return made;
}

PyMethodDef ROW_FUNCTIONS[] = {
    {"columns", columns, METH_VARARGS, "Read an archive's rows into columns, if all of them are plain."},
    {NULL, NULL, 0, NULL},
};
