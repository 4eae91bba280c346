/* Loads an exported flow and runs its signatures through TensorFlow's C library.
 *
 * The loader is the one TF Serving uses. Header only, C11, no Python:
 *
 *   ServedModel model;
 *   if (!served_model_load(&model, "models/flow/1")) puts(served_model_error(&model));
 *   const Signature* s = served_model_signature(&model, "log_prob");
 *   served_model_run(&model, s, inputs, outputs);
 */
#ifndef TFP_FLOWS_SERVED_MODEL_H_
#define TFP_FLOWS_SERVED_MODEL_H_

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tensorflow/c/c_api.h"

#define MAX_SIGNATURES 32
#define MAX_TENSORS 8
#define MAX_NAME 256
#define MAX_RANK 8

/* tensorflow::DisableXlaCompilation(), which TF Serving calls on CPU. */
extern void disable_xla_compilation(void)
    __asm__("_ZN10tensorflow21DisableXlaCompilationEv");

typedef struct {
  char alias[MAX_NAME];  /* what a client calls it, such as "log_prob" */
  char tensor[MAX_NAME]; /* its name in the graph, such as "call:0" */
  TF_DataType dtype;
  int rank;              /* of the declared shape */
  int64_t dims[MAX_RANK]; /* -1 where any size will do */
} TensorInfo;

typedef struct {
  char name[MAX_NAME];
  TensorInfo inputs[MAX_TENSORS], outputs[MAX_TENSORS];
  int n_inputs, n_outputs;
} Signature;

typedef struct {
  TF_Graph* graph;
  TF_Session* session;
  TF_Status* status;
  Signature signatures[MAX_SIGNATURES];
  int n_signatures;
} ServedModel;

/* ---- The few fields of protocol buffers that are needed ------------------- */

typedef struct {
  const uint8_t *at, *end;
} Bytes;

typedef struct {
  uint32_t number;
  uint64_t integer; /* of a varint field */
  Bytes bytes;      /* of a length-delimited field */
} Field;

static bool read_varint(Bytes* in, uint64_t* value) {
  *value = 0;
  for (int shift = 0; in->at < in->end && shift < 64; shift += 7) {
    uint8_t byte = *in->at++;
    *value |= (uint64_t)(byte & 0x7f) << shift;
    if (byte < 0x80) return true;
  }
  return false;
}

static bool read_field(Bytes* in, Field* field) {
  uint64_t key, length = 0;
  if (!read_varint(in, &key)) return false;
  field->number = (uint32_t)(key >> 3);
  switch (key & 7) {
    case 0:
      return read_varint(in, &field->integer);
    case 1:
      length = 8;
      break;
    case 2:
      if (!read_varint(in, &length)) return false;
      break;
    case 5:
      length = 4;
      break;
    default:
      return false;
  }
  if (length > (uint64_t)(in->end - in->at)) return false;
  field->bytes = (Bytes){in->at, in->at + length};
  in->at += length;
  return true;
}

static void copy_name(char* to, Bytes from) {
  size_t length = (size_t)(from.end - from.at);
  if (length >= MAX_NAME) length = MAX_NAME - 1;
  memcpy(to, from.at, length);
  to[length] = '\0';
}

/* TensorShapeProto: repeated dim = 2 {size = 1}. */
static void read_shape(Bytes shape, TensorInfo* info) {
  for (Field dim; read_field(&shape, &dim);) {
    if (dim.number != 2 || info->rank == MAX_RANK) continue;
    int64_t size = 0; /* what an absent field stands for */
    for (Field inner; read_field(&dim.bytes, &inner);)
      if (inner.number == 1) size = (int64_t)inner.integer;
    info->dims[info->rank++] = size;
  }
}

/* An entry of map<string, TensorInfo>: key = 1, value = 2 {name = 1, dtype = 2,
 * tensor_shape = 3}. */
static void read_tensor_info(Bytes entry, TensorInfo* info) {
  for (Field field; read_field(&entry, &field);) {
    if (field.number == 1) copy_name(info->alias, field.bytes);
    if (field.number != 2) continue;
    Bytes value = field.bytes;
    for (Field inner; read_field(&value, &inner);) {
      if (inner.number == 1) copy_name(info->tensor, inner.bytes);
      if (inner.number == 2) info->dtype = (TF_DataType)inner.integer;
      if (inner.number == 3) read_shape(inner.bytes, info);
    }
  }
}

/* An entry of map<string, SignatureDef>: value = 2 {inputs = 1, outputs = 2}. */
static void read_signature(Bytes entry, Signature* signature) {
  memset(signature, 0, sizeof *signature);
  for (Field field; read_field(&entry, &field);) {
    if (field.number == 1) copy_name(signature->name, field.bytes);
    if (field.number != 2) continue;
    Bytes value = field.bytes;
    for (Field inner; read_field(&value, &inner);) {
      if (inner.number == 1 && signature->n_inputs < MAX_TENSORS)
        read_tensor_info(inner.bytes, &signature->inputs[signature->n_inputs++]);
      if (inner.number == 2 && signature->n_outputs < MAX_TENSORS)
        read_tensor_info(inner.bytes, &signature->outputs[signature->n_outputs++]);
    }
  }
}

/* ---- The model ------------------------------------------------------------ */

static inline bool served_model_ok(const ServedModel* model) {
  return TF_GetCode(model->status) == TF_OK;
}

static inline const char* served_model_error(const ServedModel* model) {
  return TF_Message(model->status);
}

/* Loads one version directory, with XLA off as on a server; false on failure. */
static inline bool served_model_load(ServedModel* model, const char* directory) {
  memset(model, 0, sizeof *model);
  disable_xla_compilation();
  model->graph = TF_NewGraph();
  model->status = TF_NewStatus();
  TF_SessionOptions* options = TF_NewSessionOptions();
  TF_Buffer* meta_graph = TF_NewBuffer();
  const char* tags[] = {"serve"};
  model->session = TF_LoadSessionFromSavedModel(
      options, NULL, directory, tags, 1, model->graph, meta_graph, model->status);
  TF_DeleteSessionOptions(options);
  if (served_model_ok(model)) {
    const uint8_t* start = meta_graph->data;
    Bytes in = {start, start + meta_graph->length};
    /* MetaGraphDef: map<string, SignatureDef> signature_def = 5. */
    for (Field field; read_field(&in, &field);)
      if (field.number == 5 && model->n_signatures < MAX_SIGNATURES)
        read_signature(field.bytes, &model->signatures[model->n_signatures++]);
  }
  TF_DeleteBuffer(meta_graph);
  return served_model_ok(model);
}

/* Returns the signature of that name, or NULL. */
static inline const Signature* served_model_signature(const ServedModel* model,
                                                      const char* name) {
  for (int i = 0; i < model->n_signatures; ++i)
    if (strcmp(model->signatures[i].name, name) == 0) return &model->signatures[i];
  return NULL;
}

static inline int tensor_index(const TensorInfo* infos, int n, const char* alias) {
  for (int i = 0; i < n; ++i)
    if (strcmp(infos[i].alias, alias) == 0) return i;
  return -1;
}

/* "name:2" in the graph's own terms. */
static inline TF_Output tensor_in_graph(TF_Graph* graph, const char* tensor) {
  char name[MAX_NAME];
  snprintf(name, sizeof name, "%s", tensor);
  char* colon = strrchr(name, ':');
  int index = colon ? atoi(colon + 1) : 0;
  if (colon) *colon = '\0';
  return (TF_Output){TF_GraphOperationByName(graph, name), index};
}

/* Runs a signature. `inputs` and `outputs` are in the order of the signature's own
 * lists; the caller deletes the tensors of both. False on failure. */
static inline bool served_model_run(ServedModel* model, const Signature* signature,
                                    TF_Tensor* const* inputs, TF_Tensor** outputs) {
  TF_Output feeds[MAX_TENSORS], fetches[MAX_TENSORS];
  for (int i = 0; i < signature->n_inputs; ++i)
    feeds[i] = tensor_in_graph(model->graph, signature->inputs[i].tensor);
  for (int i = 0; i < signature->n_outputs; ++i)
    fetches[i] = tensor_in_graph(model->graph, signature->outputs[i].tensor);
  TF_SessionRun(model->session, NULL, feeds, inputs, signature->n_inputs, fetches,
                outputs, signature->n_outputs, NULL, 0, NULL, model->status);
  return served_model_ok(model);
}

static inline void served_model_close(ServedModel* model) {
  if (model->session) {
    TF_CloseSession(model->session, model->status);
    TF_DeleteSession(model->session, model->status);
  }
  TF_DeleteGraph(model->graph);
  TF_DeleteStatus(model->status);
}

#endif /* TFP_FLOWS_SERVED_MODEL_H_ */
