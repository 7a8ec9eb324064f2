/* Decodes recorded streams with the kernel alone and writes every code and every frequency.
 *
 *     replay RECORDING > RESULT
 *
 * A recording is little-endian: 13 int32 sizes, then blocks of an int64 length and as many bytes:
 * the weights, and for each lane the stream, its numbers (count, kind, previous, board width,
 * capacity, start; int32), places, board, keys and values. `replay.py` writes it. */

#define KERNEL_WITHOUT_PYTHON
#include "_kernel.c"

#include <stdio.h>

static void fail(const char *words) {
    fprintf(stderr, "replay: %s\n", words);
    exit(2);
}

/* The next block, at an address that is a multiple of 64; NULL at the end of the file. */
static void *block_of(FILE *file, int64_t *length) {
    if (fread(length, sizeof *length, 1, file) != 1) return NULL;
    char *space = malloc((size_t)*length + 128);
    if (!space) fail("out of memory");
    char *here = space + (64 - (uintptr_t)space % 64) % 64;
    if (fread(here, 1, (size_t)*length, file) != (size_t)*length) fail("the recording is cut");
    return here;
}

static void *needed(FILE *file, int64_t *length) {
    void *block = block_of(file, length);
    if (!block) fail("the recording is cut");
    return block;
}

int main(int count, char **words) {
    Model model;
    int64_t length;
    FILE *file = count == 2 ? fopen(words[1], "rb") : NULL;
    if (!file) fail("name a recording");
    if (fread(&model.size, sizeof model.size, 1, file) != 1) fail("the recording is cut");
    const char *weights = needed(file, &length);
    if (place_model(&model, weights) != (size_t)length) fail("these are not the kernel's weights");
    size_t most = (size_t)largest(model.size.high_size, model.size.low_size);
    Lane lane = {0};
    while ((lane.data = block_of(file, &lane.length))) {
        const int32_t *numbers = needed(file, &length);
        lane.count = numbers[0], lane.kind = numbers[1], lane.previous = numbers[2];
        lane.board_width = numbers[3], lane.capacity = numbers[4], lane.start = numbers[5];
        lane.places = needed(file, &length);
        lane.board = needed(file, &length);
        lane.keys = needed(file, &length);
        lane.values = needed(file, &length);
        lane.code = 0, lane.range = (int64_t)1 << TOP_BITS, lane.position = TOP_BITS / 8;
        for (int64_t i = 0; i < TOP_BITS / 8; i++)
            lane.code = (lane.code << 8) | (i < lane.length ? lane.data[i] : 0);
        lane.codes = calloc((size_t)lane.count + 1, 4);
        lane.record = calloc((size_t)lane.count * 2 * most + 1, 8);
        if (!lane.codes || !lane.record || !decode_lanes(&model, &lane, 1)) fail("out of memory");
        int64_t end[3] = {lane.code, lane.range, lane.position};
        fwrite(lane.codes, 4, (size_t)lane.count, stdout);
        fwrite(lane.record, 8, (size_t)lane.count * 2 * most, stdout);
        fwrite(end, 8, 3, stdout);
        free(lane.codes), free(lane.record);
    }
    return 0;
}
