/* The batch loop in C: parse, ids, windows, chunks and the spike rule of straightforward trades; see streamer/hotpath.py.

   Nothing is decided here that Python would not decide the same: a message in any other form than the exchange's own,
   a number of more than 15 digits, an id that is not the next, a time outside the symbol's open window, and the loop
   stops in front of it and leaves it to the careful path. Sums are made in the same order in the same doubles, and
   quantities in the same integers of 1e-8, so both loops leave the same state behind, to the last bit. */

#include "feed.h"

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

static int parse(Feed *self, const char *at, const char *end, Parsed *out) {
    int64_t sent_ms;
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
    if (!decimal(&at, end, &out->price, &out->price_units) || !SKIP("\",\"q\":\"")) return 0;
    if (!decimal(&at, end, &out->quantity, &out->units)) return 0;
    if (self->id_key == 'a') {
        int64_t first, last;
        if (!SKIP("\",\"f\":") || !whole(&at, end, &first) || !SKIP(",\"l\":") || !whole(&at, end, &last) ||
            !SKIP(",\"T\":"))
            return 0;
    } else if (!SKIP("\",\"T\":")) return 0;
    if (!whole(&at, end, &out->event_ms) || out->event_ms > sent_ms + AHEAD_MS || !SKIP(",\"m\":")) return 0;
    if (SKIP("true")) out->maker = 1;
    else if (SKIP("false")) out->maker = 0;
    else return 0;
    return SKIP(",\"M\":true}}") && at == end;
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
        if (trade.event_ms > latest_ms || length > trade.row->longest) break;
        int64_t newest = newest_ms, before = 0;
        int what = absorb(trade.row, &trade, &newest, &before);
        newest_ms = newest;
        if (what == TAKEN) continue;
        if (what != FIRED) {
            if (what == BEYOND) beyond = trade_values(trade.row - self->rows, &trade, 0);
            break;
        }
        if (append(fired, trade_values(trade.row - self->rows, &trade, before))) {
            Py_DECREF(fired);
            return NULL;
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
    new.chunk.on = 0;
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

/* put_chunk(row, trades, buyers, sweeps, most_fills, last_buy_ms, fills, high, close, buy, sell, largest, eaten,
             first_price, order): let the trades that follow count for this chunk too, until the next put */
static PyObject *Feed_put_chunk(Feed *self, PyObject *args) {
    Py_ssize_t number;
    Chunk new = {.on = 1};
    if (!PyArg_ParseTuple(args, "nLLLLLLdddddddd", &number, &new.trades, &new.buyers, &new.sweeps, &new.most_fills,
                          &new.last_buy_ms, &new.fills, &new.high, &new.close, &new.buy, &new.sell, &new.largest,
                          &new.eaten, &new.first_price, &new.order))
        return NULL;
    Row *row = row_of(self, number);
    if (!row) return NULL;
    row->chunk = new;
    Py_RETURN_NONE;
}

/* chunk(row): what put_chunk took, as it is now */
static PyObject *Feed_chunk(Feed *self, PyObject *arg) {
    Row *row = row_of(self, PyLong_AsSsize_t(arg));
    if (!row) return NULL;
    const Chunk *chunk = &row->chunk;
    return Py_BuildValue("(LLLLLLdddddddd)", (long long)chunk->trades, (long long)chunk->buyers,
                         (long long)chunk->sweeps, (long long)chunk->most_fills, (long long)chunk->last_buy_ms,
                         (long long)chunk->fills, chunk->high, chunk->close, chunk->buy, chunk->sell, chunk->largest,
                         chunk->eaten, chunk->first_price, chunk->order);
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
    {"take_rows", (PyCFunction)Feed_take_rows, METH_VARARGS, "Take an archive's rows, as far as they are plain."},
    {"add", (PyCFunction)Feed_add, METH_VARARGS, "Follow a symbol; return its row."},
    {"ring", (PyCFunction)Feed_ring, METH_O, "Return a row's ring as writable memory."},
    {"put", (PyCFunction)Feed_put, METH_VARARGS, "Open a row with this state."},
    {"get", (PyCFunction)Feed_get, METH_O, "Return a row's state and close it."},
    {"put_chunk", (PyCFunction)Feed_put_chunk, METH_VARARGS, "Give an open row the open chunk of the pump rule."},
    {"chunk", (PyCFunction)Feed_chunk, METH_O, "Return the open chunk of a row."},
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
        PyModule_AddFunctions(module, ROW_FUNCTIONS) < 0 ||
        PyModule_AddObjectRef(module, "Feed", (PyObject *)&FeedType) < 0 ||
        PyModule_AddObjectRef(module, "Gather", (PyObject *)&GatherType) < 0) {
        Py_DECREF(module);
        return NULL;
    }
    return module;
}
