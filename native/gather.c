/* Gathers the frames that picows reads into batches, straight from its read buffer: no Python object a message.

   A Gather's `frame` stands in for a listener's `on_ws_frame`. It looks into picows's WSFrame as that library's own
   picows.pxd, made for such use, lays it out; `frame_fields` lets the caller compare that with what the frame itself
   says, before it trusts it (streamer/native.py does). Whole text messages are copied together; anything else, and
   the end of a read, is left to Python. */

#include "batch.h"
#include <stdint.h>
#include <string.h>

typedef struct {
    PyObject_HEAD
    void *methods;
    PyObject *owner;
    char *payload;
    Py_ssize_t size, tail_size;
    int kind; /* an enum */
    uint8_t fin, rsv1, rsv2, rsv3, last_in_buffer;
} Frame;

typedef struct {
    PyObject_HEAD
    Batch *batch; /* NULL: nothing gathered */
    PyObject *flush, *rare;
    Py_ssize_t most, bytes, messages; /* the last batch's size: the next will be like it */
} Gather;

enum { TEXT = 1 };

/* --- a batch: to Python, a sequence of bytes --------------------------------------------------------------------- */
static Py_ssize_t Batch_length(Batch *self) { return self->count; }

static PyObject *Batch_item(Batch *self, Py_ssize_t number) {
    if (number < 0 || number >= self->count) {
        PyErr_SetString(PyExc_IndexError, "no such message");
        return NULL;
    }
    Py_ssize_t length;
    const char *text = batch_message(self, number, &length);
    return PyBytes_FromStringAndSize(text, length);
}

static void Batch_dealloc(Batch *self) {
    PyMem_Free(self->ends);
    PyMem_Free(self->data);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PySequenceMethods BATCH_SEQUENCE = {
    .sq_length = (lenfunc)Batch_length,
    .sq_item = (ssizeargfunc)Batch_item,
};

PyTypeObject BatchType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "hotloop.Batch",
    .tp_basicsize = sizeof(Batch),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .tp_as_sequence = &BATCH_SEQUENCE,
    .tp_dealloc = (destructor)Batch_dealloc,
};

static int batch_append(Batch *self, const char *text, Py_ssize_t length) {
    Py_ssize_t size = self->count ? self->ends[self->count - 1] : 0;
    if (length > self->capacity - size) {
        Py_ssize_t capacity = 2 * self->capacity > size + length ? 2 * self->capacity : size + length + 4096;
        char *data = PyMem_Realloc(self->data, (size_t)capacity);
        if (!data) return PyErr_NoMemory(), -1;
        self->data = data;
        self->capacity = capacity;
    }
    if (self->count == self->room) {
        Py_ssize_t room = self->room ? 2 * self->room : 16;
        Py_ssize_t *ends = PyMem_Realloc(self->ends, (size_t)room * sizeof(Py_ssize_t));
        if (!ends) return PyErr_NoMemory(), -1;
        self->ends = ends;
        self->room = room;
    }
    if (length) memcpy(self->data + size, text, (size_t)length);
    self->ends[self->count++] = size + length;
    return 0;
}

/* --- gathering --------------------------------------------------------------------------------------------------- */
static int add(Gather *self, const char *text, Py_ssize_t length) {
    if (!self->batch) {
        Batch *batch = PyObject_New(Batch, &BatchType);
        if (!batch) return -1;
        batch->count = 0;
        batch->room = self->messages + self->messages / 4;
        batch->capacity = self->bytes + self->bytes / 4;
        batch->ends = batch->room ? PyMem_Malloc((size_t)batch->room * sizeof(Py_ssize_t)) : NULL;
        batch->data = batch->capacity ? PyMem_Malloc((size_t)batch->capacity) : NULL;
        if (!batch->ends) batch->room = 0;
        if (!batch->data) batch->capacity = 0;
        self->batch = batch;
    }
    return batch_append(self->batch, text, length);
}

static int call_flush(Gather *self) {
    PyObject *done = PyObject_CallNoArgs(self->flush);
    Py_XDECREF(done);
    return done ? 0 : -1;
}

/* frame(transport, frame): what picows calls for every frame */
static PyObject *Gather_frame(Gather *self, PyObject *const *args, Py_ssize_t count) {
    if (count != 2 || Py_TYPE(args[1])->tp_basicsize < (Py_ssize_t)sizeof(Frame)) {
        PyErr_SetString(PyExc_TypeError, "frame(transport, frame) is picows's to call");
        return NULL;
    }
    const Frame *frame = (const Frame *)args[1];
    int last = frame->last_in_buffer;
    if (frame->kind == TEXT && frame->fin) {
        if (add(self, frame->payload, frame->size)) return NULL;
        if (!last && self->batch->count < self->most) Py_RETURN_NONE;
        if (call_flush(self)) return NULL;
        Py_RETURN_NONE;
    }
    PyObject *done = PyObject_CallFunctionObjArgs(self->rare, args[0], args[1], NULL);
    if (!done) return NULL;
    Py_DECREF(done);
    if (last && call_flush(self)) return NULL;
    Py_RETURN_NONE;
}

static PyObject *Gather_append(Gather *self, PyObject *message) {
    if (!PyBytes_Check(message)) {
        PyErr_SetString(PyExc_TypeError, "a message is bytes");
        return NULL;
    }
    if (add(self, PyBytes_AS_STRING(message), PyBytes_GET_SIZE(message))) return NULL;
    Py_RETURN_NONE;
}

static PyObject *Gather_take(Gather *self, PyObject *ignored) {
    Batch *batch = self->batch;
    if (!batch) return PyTuple_New(0);
    self->batch = NULL;
    self->messages = batch->count;
    self->bytes = batch->ends[batch->count - 1];
    return (PyObject *)batch;
}

static PyObject *Gather_new(PyTypeObject *type, PyObject *args, PyObject *words) {
    PyObject *flush, *rare;
    Py_ssize_t most;
    if (words && PyDict_Size(words)) {
        PyErr_SetString(PyExc_TypeError, "Gather takes no keywords");
        return NULL;
    }
    if (!PyArg_ParseTuple(args, "OOn", &flush, &rare, &most)) return NULL;
    Gather *self = (Gather *)type->tp_alloc(type, 0);
    if (!self) return NULL;
    self->flush = Py_NewRef(flush);
    self->rare = Py_NewRef(rare);
    self->most = most;
    return (PyObject *)self;
}

/* The listener holds its Gather, which holds the listener's methods: the collector has to see that ring. */
static int Gather_traverse(Gather *self, visitproc visit, void *arg) {
    Py_VISIT(self->flush);
    Py_VISIT(self->rare);
    return 0;
}

static int Gather_clear(Gather *self) {
    Py_CLEAR(self->flush);
    Py_CLEAR(self->rare);
    return 0;
}

static void Gather_dealloc(Gather *self) {
    PyObject_GC_UnTrack(self);
    Gather_clear(self);
    Py_XDECREF(self->batch);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyMethodDef METHODS[] = {
    {"frame", (PyCFunction)(void (*)(void))Gather_frame, METH_FASTCALL, "Take one frame; stands for on_ws_frame."},
    {"append", (PyCFunction)Gather_append, METH_O, "Gather one more message."},
    {"take", (PyCFunction)Gather_take, METH_NOARGS, "Hand over what was gathered, as a sequence of bytes."},
    {NULL, NULL, 0, NULL},
};

PyTypeObject GatherType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "hotloop.Gather",
    .tp_basicsize = sizeof(Gather),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_new = Gather_new,
    .tp_traverse = (traverseproc)Gather_traverse,
    .tp_clear = (inquiry)Gather_clear,
    .tp_dealloc = (destructor)Gather_dealloc,
    .tp_methods = METHODS,
};

/* frame_fields(frame, size) -> (payload, kind, fin, rsv1, last_in_buffer) as this file sees them; `size` is what the
   frame says of itself, and without it at its place the payload is not touched */
static PyObject *frame_fields(PyObject *module, PyObject *args) {
    PyObject *object;
    Py_ssize_t size;
    if (!PyArg_ParseTuple(args, "On", &object, &size)) return NULL;
    const Frame *frame = (const Frame *)object;
    if (Py_TYPE(object)->tp_basicsize != (Py_ssize_t)sizeof(Frame) || frame->size != size) {
        PyErr_SetString(PyExc_ValueError, "not the frame that this was written for");
        return NULL;
    }
    return Py_BuildValue("(y#iiii)", frame->payload, frame->size, frame->kind, frame->fin, frame->rsv1,
                         frame->last_in_buffer);
}

PyMethodDef GATHER_FUNCTIONS[] = {
    {"frame_fields", frame_fields, METH_VARARGS, "Return a frame's fields as the native code sees them."},
    {NULL, NULL, 0, NULL},
};
