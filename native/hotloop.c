/* The batch loop in C: parse, ids, windows and the spike rule of straightforward trades; see streamer/hotpath.py.

   Nothing is decided here that Python would not decide the same: a message in any other form than the exchange's own,
   a number of more than 15 digits, an id that is not the next, a time outside the symbol's open window, and the loop
   stops in front of it and leaves it to the careful path. Sums are made in the same order in the same doubles, and
   quantities in the same integers of 1e-8, so both loops leave the same state behind, to the last bit. */

#include "batch.h"
#include <stdint.h>
#include <string.h>

typedef struct {
    int64_t next_id, lo, hi, longest, last_ms, seen; /* lo <= T < hi: inside the newest window, closing none */
    int64_t count, units, window_last_ms;
    double base, sum, squares, last_price;
    int64_t size, at, laps, total, times_quantity, times_sum; /* size 0: no spike rule */
    int64_t *ring;
    uint8_t symbol_length;
    char symbol[64];
} Row;

typedef struct {
    PyObject_HEAD
    Row *rows;
    Py_ssize_t used, room;
    int32_t *table; /* open addressing over the symbols' bytes; -1: free */
    Py_ssize_t slots;
    char kind[16];
    Py_ssize_t kind_length;
    char id_key;
} Feed;

static const double POWERS[] = {1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15};
static const int64_t FAR_MS = 86400000;
static const int64_t TENS[] = {100000000, 10000000, 1000000, 100000, 10000, 1000, 100, 10, 1};

static uint64_t hash_of(const char *text, size_t length) {
    uint64_t hash = 1469598103934665603ULL;
    for (size_t at = 0; at < length; at++) hash = (hash ^ (unsigned char)text[at]) * 1099511628211ULL;
    return hash ^ (hash >> 29);
}

static Row *find(Feed *self, const char *symbol, size_t length) {
    if (!self->slots) return NULL;
    for (uint64_t at = hash_of(symbol, length);; at++) {
        int32_t row = self->table[at & (uint64_t)(self->slots - 1)];
        if (row < 0) return NULL;
        Row *found = &self->rows[row];
        if (found->symbol_length == length && !memcmp(found->symbol, symbol, length)) return found;
    }
}

/* Inlined, a comparison with a constant is one or two machine words long instead of a call. */
#define ALWAYS_INLINE static inline __attribute__((always_inline))

/* --- reading: each helper moves the cursor and returns 0 when the text is not what it should be ------------------- */
ALWAYS_INLINE int skip(const char **at, const char *end, const char *text, size_t length) {
    if ((size_t)(end - *at) < length || memcmp(*at, text, length)) return 0;
    *at += length;
    return 1;
}
#define SKIP(text) skip(&at, end, text, sizeof(text) - 1)

ALWAYS_INLINE int whole(const char **at, const char *end, int64_t *value) {
    const char *from = *at;
    int64_t number = 0;
    while (*at < end && **at >= '0' && **at <= '9') number = number * 10 + (*(*at)++ - '0');
    *value = number;
    return *at > from && *at - from <= 18 && (*from != '0' || *at - from == 1);
}

/* A positive decimal of at most 15 significant digits and 8 decimals: exact as an integer, and as a double. */
ALWAYS_INLINE int decimal(const char **at, const char *end, double *value, int64_t *units) {
    const char *from = *at;
    int64_t number = 0;
    int decimals = 0, digits = 0;
    while (*at < end && **at >= '0' && **at <= '9') {
        number = number * 10 + (*(*at)++ - '0');
        digits += number != 0;
        if (digits > 15) return 0;
    }
    if (*at == from || *at == end || **at != '.') return 0;
    (*at)++;
    while (*at < end && **at >= '0' && **at <= '9') {
        number = number * 10 + (*(*at)++ - '0');
        digits += number != 0;
        if (++decimals > 8 || digits > 15) return 0;
    }
    if (!decimals || !number || *at - from > 24) return 0;
    *value = (double)number / POWERS[decimals];
    return !__builtin_mul_overflow(number, TENS[decimals], units);
}

typedef struct {
    Row *row;
    int64_t id, event_ms, units;
    double price, quantity;
    int maker;
} Parsed;

static int parse(Feed *self, const char *at, const char *end, Parsed *out) {
    double ignored;
    int64_t sent_ms, price_units;
    if (!SKIP("{\"stream\":\"")) return 0;
    const char *quote = memchr(at, '"', (size_t)(end - at));
    if (!quote) return 0;
    for (const char *c = at; c < quote; c++)
        if (*c == '\\' || (unsigned char)*c < 0x20 || (unsigned char)*c > 0x7e) return 0;
    at = quote + 1;
    if (!SKIP(",\"data\":{\"e\":\"") || !skip(&at, end, self->kind, (size_t)self->kind_length) || !SKIP("\",\"E\":"))
        return 0;
    if (!whole(&at, end, &sent_ms) || !SKIP(",\"s\":\"")) return 0;
    quote = memchr(at, '"', (size_t)(end - at));
    if (!quote) return 0;
    out->row = find(self, at, (size_t)(quote - at));
    at = quote + 1;
    if (!out->row || !SKIP(",\"")) return 0;
    if (at >= end || *at++ != self->id_key || !SKIP("\":") || !whole(&at, end, &out->id) || !SKIP(",\"p\":\"")) return 0;
    if (!decimal(&at, end, &out->price, &price_units) || !SKIP("\",\"q\":\"")) return 0;
    if (!decimal(&at, end, &out->quantity, &out->units)) return 0;
    (void)ignored;
    if (self->id_key == 'a') {
        int64_t first, last;
        if (!SKIP("\",\"f\":") || !whole(&at, end, &first) || !SKIP(",\"l\":") || !whole(&at, end, &last) ||
            !SKIP(",\"T\":"))
            return 0;
    } else if (!SKIP("\",\"T\":")) return 0;
    if (!whole(&at, end, &out->event_ms) || !SKIP(",\"m\":")) return 0;
    if (SKIP("true")) out->maker = 1;
    else if (SKIP("false")) out->maker = 0;
    else return 0;
    return SKIP(",\"M\":true}}") && at == end;
}

static PyObject *row_values(Py_ssize_t row, const Parsed *trade, int64_t before) {
    return Py_BuildValue("(nLddLLLO)", row, (long long)trade->id, trade->price, trade->quantity,
                         (long long)trade->event_ms, (long long)trade->units, (long long)before,
                         trade->maker ? Py_True : Py_False);
}

/* take(batch, start, latest_ms, newest_ms) -> (next, newest_ms, fired, beyond)

   `batch` is a list of bytes or a Batch. `beyond`: the message in front of which it stopped, if that is a plain trade
   whose turn it is, and only its time lies outside the open window; None for any other. */
static PyObject *Feed_take(Feed *self, PyObject *args) {
    PyObject *batch;
    Py_ssize_t start;
    long long latest_ms, newest_ms;
    if (!PyArg_ParseTuple(args, "OnLL", &batch, &start, &latest_ms, &newest_ms)) return NULL;
    int packed = Py_IS_TYPE(batch, &BatchType);
    if (!packed && !PyList_Check(batch)) {
        PyErr_SetString(PyExc_TypeError, "a batch is a list of bytes or a Batch");
        return NULL;
    }
    PyObject *fired = PyList_New(0), *beyond = NULL;
    if (!fired) return NULL;
    Py_ssize_t number = start, count = packed ? ((Batch *)batch)->count : PyList_GET_SIZE(batch);
    for (; number < count; number++) {
        const char *text;
        Py_ssize_t length;
        if (packed) text = batch_message((Batch *)batch, number, &length);
        else {
            PyObject *item = PyList_GET_ITEM(batch, number);
            if (!PyBytes_Check(item)) break;
            text = PyBytes_AS_STRING(item);
            length = PyBytes_GET_SIZE(item);
        }
        Parsed trade;
        if (!parse(self, text, text + length, &trade)) break;
        Row *row = trade.row;
        int64_t units, total = row->total;
        if (trade.id != row->next_id || row->hi < 0 || trade.event_ms > latest_ms || length > row->longest ||
            trade.price >= 1e15 || trade.quantity >= 1e15)
            break;
        if (trade.event_ms < row->lo || trade.event_ms >= row->hi) {
            /* A time far off is not believed so quickly. */
            if (trade.event_ms < row->lo - FAR_MS || trade.event_ms > row->hi + FAR_MS) break;
            beyond = row_values(row - self->rows, &trade, 0);
            break;
        }
        if (__builtin_add_overflow(row->units, trade.units, &units)) break;
        if (row->size && __builtin_add_overflow(total, trade.units - row->ring[row->at], &total)) break;
        row->next_id++;
        row->seen++;
        if (trade.event_ms > row->last_ms) {
            row->last_ms = trade.event_ms;
            if (trade.event_ms > newest_ms) newest_ms = trade.event_ms;
        }
        row->count++;
        row->units = units;
        double away = trade.price - row->base;
        row->sum += away;
        row->squares += away * away;
        row->last_price = trade.price;
        row->window_last_ms = trade.event_ms;
        if (!row->size) continue;
        int64_t before = row->total;
        row->total = total;
        row->ring[row->at] = trade.units;
        if (++row->at == row->size) {
            row->at = 0;
            row->laps++;
        }
        if ((__int128)trade.units * row->times_quantity >= (__int128)before * row->times_sum &&
            row->laps * row->size + row->at > row->size) {
            PyObject *one = row_values(row - self->rows, &trade, before);
            if (!one || PyList_Append(fired, one)) {
                Py_XDECREF(one);
                Py_DECREF(fired);
                return NULL;
            }
            Py_DECREF(one);
        }
    }
    if (PyErr_Occurred()) {
        Py_DECREF(fired);
        return NULL;
    }
    return Py_BuildValue("(nLNN)", number, newest_ms, fired, beyond ? beyond : Py_NewRef(Py_None));
}

static int rehash(Feed *self, Py_ssize_t slots) {
    int32_t *table = PyMem_Malloc((size_t)slots * sizeof(int32_t));
    if (!table) return -1;
    memset(table, 0xff, (size_t)slots * sizeof(int32_t));
    for (Py_ssize_t row = 0; row < self->used; row++) {
        uint64_t at = hash_of(self->rows[row].symbol, self->rows[row].symbol_length);
        while (table[at & (uint64_t)(slots - 1)] >= 0) at++;
        table[at & (uint64_t)(slots - 1)] = (int32_t)row;
    }
    PyMem_Free(self->table);
    self->table = table;
    self->slots = slots;
    return 0;
}

/* add(symbol, spike_size) -> row number */
static PyObject *Feed_add(Feed *self, PyObject *args) {
    const char *symbol;
    Py_ssize_t length;
    long long size;
    if (!PyArg_ParseTuple(args, "y#L", &symbol, &length, &size)) return NULL;
    if (length < 1 || length > 64 || size < 0 || size > 1000 || find(self, symbol, (size_t)length)) {
        PyErr_SetString(PyExc_ValueError, "a symbol of 1 to 64 bytes, once, and a window of at most 1000 trades");
        return NULL;
    }
    if (self->used == self->room) {
        Py_ssize_t room = self->room ? 2 * self->room : 64;
        Row *rows = PyMem_Realloc(self->rows, (size_t)room * sizeof(Row));
        if (!rows) return PyErr_NoMemory();
        self->rows = rows;
        self->room = room;
    }
    Row *row = &self->rows[self->used];
    memset(row, 0, sizeof(Row));
    row->hi = -1;
    row->size = size;
    row->symbol_length = (uint8_t)length;
    memcpy(row->symbol, symbol, (size_t)length);
    if (size) {
        row->ring = PyMem_Calloc((size_t)size, sizeof(int64_t));
        if (!row->ring) return PyErr_NoMemory();
    }
    self->used++;
    if (rehash(self, self->slots && 2 * self->used <= self->slots ? self->slots : (self->slots ? 2 * self->slots : 256)))
        return PyErr_NoMemory();
    return PyLong_FromSsize_t(self->used - 1);
}

static Row *row_of(Feed *self, Py_ssize_t number) {
    if (number < 0 || number >= self->used) {
        PyErr_SetString(PyExc_IndexError, "no such row");
        return NULL;
    }
    return &self->rows[number];
}

/* ring(row) -> writable memoryview of the quantities; it must not outlive the feed */
static PyObject *Feed_ring(Feed *self, PyObject *arg) {
    Row *row = row_of(self, PyLong_AsSsize_t(arg));
    if (!row) return NULL;
    return PyMemoryView_FromMemory((char *)row->ring, (Py_ssize_t)(row->size * 8), PyBUF_WRITE);
}

/* put(row, next_id, lo, hi, longest, last_ms, count, units, window_last_ms, base, sum, squares, last_price,
       at, laps, total, times_quantity, times_sum) */
static PyObject *Feed_put(Feed *self, PyObject *args) {
    Py_ssize_t number;
    Row new;
    if (!PyArg_ParseTuple(args, "nLLLLLLLLddddLLLLL", &number, &new.next_id, &new.lo, &new.hi, &new.longest,
                          &new.last_ms, &new.count, &new.units, &new.window_last_ms, &new.base, &new.sum, &new.squares,
                          &new.last_price, &new.at, &new.laps, &new.total, &new.times_quantity, &new.times_sum))
        return NULL;
    Row *row = row_of(self, number);
    if (!row) return NULL;
    if (row->size && (new.at < 0 || new.at >= row->size)) {
        PyErr_SetString(PyExc_ValueError, "outside the ring");
        return NULL;
    }
    new.seen = 0;
    new.size = row->size;
    new.ring = row->ring;
    new.symbol_length = row->symbol_length;
    memcpy(new.symbol, row->symbol, sizeof(new.symbol));
    *row = new;
    Py_RETURN_NONE;
}

/* get(row) -> (next_id, last_ms, seen, count, units, window_last_ms, sum, squares, last_price, at, laps, total); the
   row is closed until the next put */
static PyObject *Feed_get(Feed *self, PyObject *arg) {
    Row *row = row_of(self, PyLong_AsSsize_t(arg));
    if (!row) return NULL;
    row->hi = -1;
    return Py_BuildValue("(LLLLLLdddLLL)", (long long)row->next_id, (long long)row->last_ms, (long long)row->seen,
                         (long long)row->count, (long long)row->units, (long long)row->window_last_ms, row->sum,
                         row->squares, row->last_price, (long long)row->at, (long long)row->laps,
                         (long long)row->total);
}

static PyObject *Feed_seen(Feed *self, PyObject *arg) {
    Row *row = row_of(self, PyLong_AsSsize_t(arg));
    return row ? PyLong_FromLongLong(row->seen) : NULL;
}

static PyObject *Feed_new(PyTypeObject *type, PyObject *args, PyObject *words) {
    const char *kind;
    Py_ssize_t length;
    if (words && PyDict_Size(words)) {
        PyErr_SetString(PyExc_TypeError, "Feed takes no keywords");
        return NULL;
    }
    if (!PyArg_ParseTuple(args, "y#", &kind, &length)) return NULL;
    if (!(length == 5 && !memcmp(kind, "trade", 5)) && !(length == 8 && !memcmp(kind, "aggTrade", 8))) {
        PyErr_SetString(PyExc_ValueError, "the kind is trade or aggTrade");
        return NULL;
    }
    Feed *self = (Feed *)type->tp_alloc(type, 0);
    if (!self) return NULL;
    memcpy(self->kind, kind, (size_t)length);
    self->kind_length = length;
    self->id_key = length == 5 ? 't' : 'a';
    return (PyObject *)self;
}

static void Feed_dealloc(Feed *self) {
    for (Py_ssize_t row = 0; row < self->used; row++) PyMem_Free(self->rows[row].ring);
    PyMem_Free(self->rows);
    PyMem_Free(self->table);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyMethodDef METHODS[] = {
    {"take", (PyCFunction)Feed_take, METH_VARARGS, "Take messages from `start` on, as far as they are plain."},
    {"add", (PyCFunction)Feed_add, METH_VARARGS, "Follow a symbol; return its row."},
    {"ring", (PyCFunction)Feed_ring, METH_O, "Return a row's ring as writable memory."},
    {"put", (PyCFunction)Feed_put, METH_VARARGS, "Open a row with this state."},
    {"get", (PyCFunction)Feed_get, METH_O, "Return a row's state and close it."},
    {"seen", (PyCFunction)Feed_seen, METH_O, "Return the trades a row has taken since it was opened."},
    {NULL, NULL, 0, NULL},
};

static PyTypeObject FeedType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "hotloop.Feed",
    .tp_basicsize = sizeof(Feed),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_new = Feed_new,
    .tp_dealloc = (destructor)Feed_dealloc,
    .tp_methods = METHODS,
};

static struct PyModuleDef MODULE = {PyModuleDef_HEAD_INIT, "_hotloop", NULL, -1, GATHER_FUNCTIONS, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__hotloop(void) {
    if (PyType_Ready(&FeedType) < 0 || PyType_Ready(&BatchType) < 0 || PyType_Ready(&GatherType) < 0) return NULL;
    PyObject *module = PyModule_Create(&MODULE);
    if (!module) return NULL;
    if (PyModule_AddStringConstant(module, "SOURCES", SOURCES) < 0 ||
        PyModule_AddObjectRef(module, "Feed", (PyObject *)&FeedType) < 0 ||
        PyModule_AddObjectRef(module, "Gather", (PyObject *)&GatherType) < 0) {
        Py_DECREF(module);
        return NULL;
    }
    return module;
}
