/* The messages of one read, one behind the other in one piece of memory; what gather.c fills and hotloop.c reads. */

#ifndef TAPEWATCH_BATCH_H
#define TAPEWATCH_BATCH_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

typedef struct {
    PyObject_HEAD
    Py_ssize_t count, room; /* messages */
    Py_ssize_t *ends;       /* message n: data[ends[n - 1]] to data[ends[n]] */
    Py_ssize_t capacity;    /* bytes of data */
    char *data;
} Batch;

extern PyTypeObject BatchType, GatherType;
extern PyMethodDef GATHER_FUNCTIONS[];

static inline const char *batch_message(const Batch *batch, Py_ssize_t number, Py_ssize_t *length) {
    Py_ssize_t from = number ? batch->ends[number - 1] : 0;
    *length = batch->ends[number] - from;
    return batch->data + from;
}

#endif
