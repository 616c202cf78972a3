/* What a symbol's row holds, how a number is read, and how one trade is taken: for hotloop.c and rows.c. */

#ifndef TAPEWATCH_FEED_H
#define TAPEWATCH_FEED_H

#include "batch.h"
#include <math.h>
#include <stdint.h>
#include <string.h>

/* The open chunk of the pump rule and its newest buying order, as in shared/detection/pump.py; `on` 0: no such rule. */
typedef struct {
    int64_t on, trades, buyers, sweeps, most_fills, last_buy_ms, fills;
    double high, close, buy, sell, largest, eaten, first_price, order;
} Chunk;

typedef struct {
    int64_t next_id, lo, hi, longest, last_ms, seen; /* lo <= T < hi: inside the newest window, closing none */
    int64_t count, units, window_last_ms;
    double base, sum, squares, last_price;
    int64_t size, at, laps, total, times_quantity, times_sum; /* size 0: no spike rule */
    int64_t *ring;
    Chunk chunk;
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
static const int64_t FAR_MS = 86400000, AHEAD_MS = 5000; /* AHEAD_MS: as in shared/exchange/binance/wire.py */
static const int64_t TENS[] = {100000000, 10000000, 1000000, 100000, 10000, 1000, 100, 10, 1};

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
    while (*at < end && **at >= '0' && **at <= '9') {
        if (*at - from == 18) return 0; /* it might not fit */
        number = number * 10 + (*(*at)++ - '0');
    }
    *value = number;
    return *at > from && (*from != '0' || *at - from == 1);
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
    int64_t id, event_ms, units, price_units;
    double price, quantity;
    int maker;
} Parsed;

static inline Row *row_of(Feed *self, Py_ssize_t number) {
    if (number < 0 || number >= self->used) {
        PyErr_SetString(PyExc_IndexError, "no such row");
        return NULL;
    }
    return &self->rows[number];
}

/* What becomes of a trade in its turn. BEYOND: only its time lies outside the open window. */
enum { LEFT, TAKEN, FIRED, BEYOND };

/* What PumpDetector.add does. */
static inline void add_to_chunk(Chunk *chunk, const Parsed *trade) {
    double price = trade->price, notional = price * trade->quantity;
    chunk->close = price;
    if (price > chunk->high) chunk->high = price;
    chunk->trades++;
    if (trade->maker) {
        chunk->sell += notional;
        return;
    }
    chunk->buy += notional;
    if (trade->event_ms != chunk->last_buy_ms) {
        chunk->last_buy_ms = trade->event_ms;
        chunk->fills = 1;
        chunk->order = notional;
        chunk->first_price = price;
        chunk->buyers++;
    } else {
        chunk->order += notional;
        if (++chunk->fills == 2) chunk->sweeps++;
        if (price > chunk->first_price) {
            chunk->eaten += log(price) - log(chunk->first_price);
            chunk->first_price = price;
        }
    }
    if (chunk->fills > chunk->most_fills) chunk->most_fills = chunk->fills;
    if (chunk->order > chunk->largest) chunk->largest = chunk->order;
}

/* Take a trade that was read, if it is the next one and inside the open window; FIRED: `before` is the sum of the
   quantities before it, and the spike rule calls it a spike. */
ALWAYS_INLINE int absorb(Row *row, const Parsed *trade, int64_t *newest_ms, int64_t *before) {
    int64_t units, total = row->total;
    if (trade->id != row->next_id || row->hi < 0 || trade->price >= 1e15 || trade->quantity >= 1e15) return LEFT;
    if (trade->event_ms < row->lo || trade->event_ms >= row->hi)
        /* A time far off is not believed so quickly. */
        return trade->event_ms < row->lo - FAR_MS || trade->event_ms > row->hi + FAR_MS ? LEFT : BEYOND;
    if (__builtin_add_overflow(row->units, trade->units, &units)) return LEFT;
    if (row->size && __builtin_add_overflow(total, trade->units - row->ring[row->at], &total)) return LEFT;
    row->next_id++;
    row->seen++;
    if (trade->event_ms > row->last_ms) {
        row->last_ms = trade->event_ms;
        if (trade->event_ms > *newest_ms) *newest_ms = trade->event_ms;
    }
    row->count++;
    row->units = units;
    double away = trade->price - row->base;
    row->sum += away;
    row->squares += away * away;
    row->last_price = trade->price;
    row->window_last_ms = trade->event_ms;
    if (row->chunk.on) add_to_chunk(&row->chunk, trade);
    if (!row->size) return TAKEN;
    *before = row->total;
    row->total = total;
    row->ring[row->at] = trade->units;
    if (++row->at == row->size) {
        row->at = 0;
        row->laps++;
    }
    return (__int128)trade->units * row->times_quantity >= (__int128)*before * row->times_sum &&
                   row->laps * row->size + row->at > row->size
               ? FIRED
               : TAKEN;
}

static inline PyObject *trade_values(Py_ssize_t first, const Parsed *trade, int64_t before) {
    return Py_BuildValue("(nLddLLLO)", first, (long long)trade->id, trade->price, trade->quantity,
                         (long long)trade->event_ms, (long long)trade->units, (long long)before,
                         trade->maker ? Py_True : Py_False);
}

/* Append and give up the reference; -1 with an error set when that cannot be done. */
static inline int append(PyObject *list, PyObject *one) {
    int failed = !one || PyList_Append(list, one);
    Py_XDECREF(one);
    return failed ? -1 : 0;
}

PyObject *Feed_take_rows(Feed *self, PyObject *args);
extern PyMethodDef ROW_FUNCTIONS[];

#endif
