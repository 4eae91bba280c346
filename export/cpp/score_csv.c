/* Scores the rows of a CSV file with an exported flow. No Python anywhere.
 *
 *   score_csv VERSION_DIRECTORY [FILE.csv] > scores.csv
 *
 * A row holds the numbers of one data point, for images in the order of the array; a
 * first line with a letter in it is a header. Reads standard input without a file.
 * Writes one line a row: log_prob (nats), bits_per_dim, is_finite.
 *
 * Build, with TF the folder of TensorFlow's libraries and of its `include`:
 *   gcc -std=c11 -O2 score_csv.c -o score_csv -I$TF/include -L$TF \
 *     -l:libtensorflow_cc.so.2 -l:libtensorflow_framework.so.2 -Wl,-rpath,$TF \
 *     -Wl,--unresolved-symbols=ignore-in-shared-libs
 */
#define _POSIX_C_SOURCE 200809L
#include <ctype.h>

#include "served_model.h"

#define ROWS_AT_ONCE 1024

typedef struct {
  double* values; /* rows x width */
  size_t rows, width;
} Table;

static int fail(const char* message, const char* detail) {
  fprintf(stderr, "error: %s%s\n", message, detail);
  return 1;
}

static bool is_header(const char* line) {
  for (; *line; ++line)
    if (isalpha((unsigned char)*line) && *line != 'e' && *line != 'E') return true;
  return false;
}

/* Reads one line of numbers; false if there are not exactly `width`. */
static bool read_row(const char* line, double* row, size_t width) {
  for (size_t i = 0; i < width; ++i) {
    char* end;
    row[i] = strtod(line, &end);
    if (end == line) return false;
    while (isspace((unsigned char)*end)) ++end;
    if (*end != (i + 1 < width ? ',' : '\0')) return false;
    line = end + 1;
  }
  return true;
}

/* Reads up to ROWS_AT_ONCE rows; returns the number of the line at fault, or 0. */
static size_t read_rows(FILE* file, Table* table, size_t* line_number) {
  char* line = NULL;
  size_t capacity = 0, fault = 0;
  table->rows = 0;
  while (!fault && table->rows < ROWS_AT_ONCE &&
         getline(&line, &capacity, file) >= 0) {
    ++*line_number;
    if (*line_number == 1 && is_header(line)) continue;
    if (line[strspn(line, " \t\r\n")] == '\0') continue;
    double* row = table->values + table->rows * table->width;
    if (read_row(line, row, table->width))
      ++table->rows;
    else
      fault = *line_number;
  }
  free(line);
  return fault;
}

/* Makes the input tensor of a batch in the shape and dtype of the signature. */
static TF_Tensor* to_tensor(const Table* table, const TensorInfo* info) {
  int64_t dims[MAX_RANK];
  memcpy(dims, info->dims, sizeof dims);
  dims[0] = (int64_t)table->rows;
  size_t n = table->rows * table->width;
  TF_Tensor* tensor = TF_AllocateTensor(info->dtype, dims, info->rank,
                                        n * TF_DataTypeSize(info->dtype));
  for (size_t i = 0; i < n; ++i) {
    if (info->dtype == TF_DOUBLE)
      ((double*)TF_TensorData(tensor))[i] = table->values[i];
    else
      ((float*)TF_TensorData(tensor))[i] = (float)table->values[i];
  }
  return tensor;
}

static double number(const TF_Tensor* tensor, size_t i) {
  const void* data = TF_TensorData(tensor);
  return TF_TensorType(tensor) == TF_DOUBLE ? ((const double*)data)[i]
                                            : ((const float*)data)[i];
}

/* Scores one batch and prints a line a row. */
static bool score(ServedModel* model, const Signature* signature, const Table* table) {
  TF_Tensor* input = to_tensor(table, &signature->inputs[0]);
  TF_Tensor* outputs[MAX_TENSORS] = {0};
  bool done = served_model_run(model, signature, &input, outputs);
  TF_DeleteTensor(input);
  if (!done) return false;
  const TensorInfo* infos = signature->outputs;
  int n = signature->n_outputs;
  const TF_Tensor* log_prob = outputs[tensor_index(infos, n, "log_prob")];
  const TF_Tensor* bits = outputs[tensor_index(infos, n, "bits_per_dim")];
  const TF_Tensor* finite = outputs[tensor_index(infos, n, "is_finite")];
  for (size_t i = 0; i < table->rows; ++i)
    printf("%.9g,%.9g,%d\n", number(log_prob, i), number(bits, i),
           ((const bool*)TF_TensorData(finite))[i]);
  for (int i = 0; i < n; ++i) TF_DeleteTensor(outputs[i]);
  return true;
}

static int score_all(ServedModel* model, const Signature* signature, FILE* file) {
  const TensorInfo* info = &signature->inputs[0];
  Table table = {.width = 1};
  for (int i = 1; i < info->rank; ++i) table.width *= (size_t)info->dims[i];
  table.values = malloc(ROWS_AT_ONCE * table.width * sizeof *table.values);
  size_t line_number = 0, fault = 0;
  int status = 0;
  puts("log_prob,bits_per_dim,is_finite");
  do {
    fault = read_rows(file, &table, &line_number);
    if (table.rows && !score(model, signature, &table))
      status = fail(served_model_error(model), "");
  } while (!status && !fault && table.rows == ROWS_AT_ONCE);
  if (fault) {
    char where[64];
    snprintf(where, sizeof where, "%zu: expected %zu numbers", fault, table.width);
    status = fail("line ", where);
  }
  free(table.values);
  return status;
}

int main(int argc, char** argv) {
  if (argc != 2 && argc != 3) {
    fprintf(stderr, "usage: %s VERSION_DIRECTORY [FILE.csv]\n", argv[0]);
    return 2;
  }
  FILE* file = argc == 3 ? fopen(argv[2], "r") : stdin;
  if (!file) return fail("cannot read ", argv[2]);
  ServedModel model;
  int status = 1;
  if (!served_model_load(&model, argv[1])) {
    fail("cannot load the model: ", served_model_error(&model));
  } else {
    const Signature* signature = served_model_signature(&model, "log_prob");
    if (!signature || signature->n_inputs != 1)
      fail("the model has no `log_prob` of data alone in ", argv[1]);
    else
      status = score_all(&model, signature, file);
  }
  served_model_close(&model);
  if (file != stdin) fclose(file);
  return status;
}
