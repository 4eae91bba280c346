/* Answers requests to an exported flow over stdin and stdout, without Python.
 *
 *   runner VERSION_DIRECTORY
 *
 * All integers are little-endian. A request is: signature name, u32 number of
 * inputs, then each input as name and tensor. A name is u32 length and bytes. A tensor
 * is u32 dtype, u32 rank, i64 dimensions, u64 size in bytes, data. The answer is u32
 * status code, then either the message as a name, or u64 nanoseconds, u32 number of
 * outputs, and each output as name and tensor. The first answer, before any request,
 * says whether the model has been loaded.
 */
#define _POSIX_C_SOURCE 199309L
#include <time.h>

#include "served_model.h"

static void get(void* to, size_t size) {
  if (fread(to, 1, size, stdin) != size) exit(size == 0 || feof(stdin) ? 0 : 2);
}

static void put(const void* from, size_t size) { fwrite(from, 1, size, stdout); }

static void put_u32(uint32_t value) { put(&value, sizeof value); }

static void put_name(const char* name) {
  put_u32((uint32_t)strlen(name));
  put(name, strlen(name));
}

static uint32_t get_u32(void) {
  uint32_t value;
  get(&value, sizeof value);
  return value;
}

static void get_name(char* name) {
  uint32_t length = get_u32();
  if (length >= MAX_NAME) exit(2);
  get(name, length);
  name[length] = '\0';
}

static TF_Tensor* get_tensor(void) {
  TF_DataType dtype = (TF_DataType)get_u32();
  uint32_t rank = get_u32();
  int64_t dimensions[16];
  uint64_t size;
  if (rank > 16) exit(2);
  get(dimensions, rank * sizeof *dimensions);
  get(&size, sizeof size);
  TF_Tensor* tensor = TF_AllocateTensor(dtype, dimensions, (int)rank, size);
  get(TF_TensorData(tensor), size);
  return tensor;
}

static void put_tensor(const TF_Tensor* tensor) {
  put_u32((uint32_t)TF_TensorType(tensor));
  put_u32((uint32_t)TF_NumDims(tensor));
  for (int i = 0; i < TF_NumDims(tensor); ++i) {
    int64_t dimension = TF_Dim(tensor, i);
    put(&dimension, sizeof dimension);
  }
  uint64_t size = TF_TensorByteSize(tensor);
  put(&size, sizeof size);
  put(TF_TensorData(tensor), size);
}

static void put_error(uint32_t code, const char* message) {
  put_u32(code);
  put_name(message);
  fflush(stdout);
}

static uint64_t nanoseconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void answer(ServedModel* model, const Signature* signature,
                   TF_Tensor* const* inputs) {
  TF_Tensor* outputs[MAX_TENSORS] = {0};
  uint64_t start = nanoseconds();
  bool done = served_model_run(model, signature, inputs, outputs);
  uint64_t elapsed = nanoseconds() - start;
  if (!done) {
    put_error(TF_GetCode(model->status), served_model_error(model));
    return;
  }
  put_u32(0);
  put(&elapsed, sizeof elapsed);
  put_u32((uint32_t)signature->n_outputs);
  for (int i = 0; i < signature->n_outputs; ++i) {
    put_name(signature->outputs[i].alias);
    put_tensor(outputs[i]);
    TF_DeleteTensor(outputs[i]);
  }
  fflush(stdout);
}

static void serve_one(ServedModel* model) {
  char name[MAX_NAME];
  get_name(name);
  const Signature* signature = served_model_signature(model, name);
  uint32_t n = get_u32();
  TF_Tensor* inputs[MAX_TENSORS] = {0};
  bool right = signature && n == (uint32_t)signature->n_inputs;
  for (uint32_t i = 0; i < n; ++i) {
    get_name(name);
    TF_Tensor* tensor = get_tensor();
    int index = right ? tensor_index(signature->inputs, (int)n, name) : -1;
    if (index < 0 || inputs[index]) {
      right = false;
      TF_DeleteTensor(tensor);
    } else {
      inputs[index] = tensor;
    }
  }
  if (right)
    answer(model, signature, inputs);
  else
    put_error(TF_INVALID_ARGUMENT, "no such signature, or not its inputs");
  for (int i = 0; i < MAX_TENSORS; ++i)
    if (inputs[i]) TF_DeleteTensor(inputs[i]);
}

int main(int argc, char** argv) {
  if (argc != 2) {
    fprintf(stderr, "usage: %s VERSION_DIRECTORY\n", argv[0]);
    return 2;
  }
  ServedModel model;
  if (!served_model_load(&model, argv[1])) {
    put_error(TF_GetCode(model.status), served_model_error(&model));
    return 1;
  }
  put_error(0, "loaded");
  for (;;) serve_one(&model); /* `get` leaves at the end of the input. */
}
