// Attention inside each sentence in f32, for heads of any size up to 128: the same scheme as attention_bf16.cuh without
// tensor cores. A block of 4 warps owns 32 rows of one sentence and head and goes over the sentence 32 rows at a time; in the scores a lane is one of those rows, in the sums up to four columns of the head.
#pragma once
#include "attention_bf16.cuh"

constexpr int SMALL_TILE = 32;
// Rows of the tile that a warp takes, one after the other.
constexpr int WARP_ROWS = SMALL_TILE / 4;
// Columns of the head per lane.
constexpr int LANE_COLUMNS = 4;

// delta[token, head] = sum over the head's columns of dO * O. A warp per token and head. Grid: tokens * heads / 4.
KERNEL(128, attention_delta, int pairs, int size, In dout, In out, float* delta) {
    int pair = blockIdx.x * (blockDim.x / WARP) + threadIdx.x / WARP, lane = threadIdx.x % WARP;
    if (pair >= pairs) return;
    float sum = 0.0f;
    for (int column = lane; column < size; column += WARP) {
        float d[1], o[1];
        dout.read<1>(size_t(pair) * size + column, d);
        out.read<1>(size_t(pair) * size + column, o);
        sum += d[0] * o[0];
    }
    sum = warp_sum(sum);
    if (lane == 0) delta[pair] = sum;
}

// Copy rows `first`.. of a sentence to rows of `size + 1` floats, zeros from `limit` on.
DEVICE void fill_small(float* to, const float* from, size_t stride, int size, int first, int limit) {
    for (int row = threadIdx.x / WARP; row < SMALL_TILE; row += blockDim.x / WARP) {
        for (int column = threadIdx.x % WARP; column < size; column += WARP) {
            bool inside = first + row < limit;
            to[row * (size + 1) + column] = inside ? from[size_t(first + row) * stride + column] : 0.0f;
        }
    }
}

DEVICE float dot(const float* a, const float* b, int size) {
    float sum = 0.0f;
    for (int i = 0; i < size; i++) sum += a[i] * b[i];
    return sum;
}

// sum[i] += sum over lanes of weight * rows[lane][column i of this lane]. `weights`: 32 floats per warp.
DEVICE void add_weighted(float (&sum)[LANE_COLUMNS], float weight, const float* rows, int size, float* weights) {
    int lane = threadIdx.x % WARP;
    __syncwarp();
    weights[lane] = weight;
    __syncwarp();
#pragma unroll
    for (int i = 0; i < LANE_COLUMNS; i++) {
        int column = lane + i * WARP;
        if (column >= size) break;
        float part = 0.0f;
        for (int other = 0; other < WARP; other++) part += weights[other] * rows[other * (size + 1) + column];
        sum[i] += part;
    }
}

// Factor of the probability of a query token and key.
DEVICE float kept_small(const Mask& mask, int token, int head, int heads, int key) {
    if (mask.keep == 0) return 1.0f;
    return mask.kept(quad_of(mask, token, head, heads, key)) >> (key % 4) & 1 ? mask.scale : 0.0f;
}

// Grid: tiles of 32, heads. Shared memory: three tiles of rows of size + 1 floats, and four floats a row.
KERNEL(128, attention_f32, const Tile* tiles, const int* positions, int heads, int size, const float* qkv, float scale,
       Mask mask, float* out, float* lse) {
    SHARED(float, memory);
    int rows = SMALL_TILE * (size + 1);
    float *queries = memory, *keys = memory + rows, *values = memory + 2 * rows;
    const Tile tile = tiles[blockIdx.x];
    int head = blockIdx.y, warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
    float* weights = memory + 3 * rows + WARP * warp;
    size_t hidden = size_t(heads) * size, stride = 3 * hidden;
    const float* sentence = qkv + size_t(tile.start) * stride + head * size;
    fill_small(queries, sentence, stride, size, tile.first, tile.end);
    float sum[WARP_ROWS][LANE_COLUMNS] = {}, top[WARP_ROWS], total[WARP_ROWS];
    for (int r = 0; r < WARP_ROWS; r++) top[r] = LOWEST, total[r] = 0.0f;
    for (int index = 0; index < tile.chunks<true>(false, SMALL_TILE); index++) {
        const Chunk<true> chunk(tile, false, index, SMALL_TILE);
        __syncthreads();
        fill_small(keys, sentence + hidden, stride, size, chunk.first, chunk.limit);
        fill_small(values, sentence + 2 * hidden, stride, size, chunk.first, chunk.limit);
        __syncthreads();
        int column = chunk.own ? tile.valid_length + lane % tile.group : chunk.first + lane;
#pragma unroll
        for (int r = 0; r < WARP_ROWS; r++) {
            int row = WARP_ROWS * warp + r;
            float score = dot(queries + row * (size + 1), keys + lane * (size + 1), size) * scale;
            if (!Met<true>(tile, false, chunk, row, tile.position(positions, row)).has(lane)) score = -INFINITY;
            float highest = fmaxf(top[r], warp_max(score));
            float shrink = expf(top[r] - highest), p = expf(score - highest);
            top[r] = highest;
            total[r] = total[r] * shrink + warp_sum(p);
            for (int i = 0; i < LANE_COLUMNS; i++) sum[r][i] *= shrink;
            p *= kept_small(mask, tile.start + tile.first + row, head, heads, column);
            add_weighted(sum[r], p, values, size, weights);
        }
    }
#pragma unroll
    for (int r = 0; r < WARP_ROWS; r++) {
        int token = tile.first + WARP_ROWS * warp + r;
        if (token >= tile.end) break;
        for (int i = 0; i < LANE_COLUMNS; i++) {
            int column = lane + i * WARP;
            if (column < size) {
                out[size_t(tile.start + token) * hidden + head * size + column] = sum[r][i] / total[r];
            }
        }
        if (lane == 0) lse[size_t(tile.start + token) * heads + head] = top[r] + logf(total[r]);
    }
}

// Grid: tiles of 32, heads, roles (2). Shared memory: four tiles of rows of size + 1 floats, and six floats a row.
// `lse` here is to base e.
KERNEL(128, attention_backward_f32, const Tile* tiles, const int* positions, int heads, int size, const float* qkv,
       const float* dout, float scale, Mask mask, const float* lse, const float* delta, float* dqkv) {
    SHARED(float, memory);
    int rows = SMALL_TILE * (size + 1);
    const Tile tile = tiles[blockIdx.x];
    int head = blockIdx.y, warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
    size_t hidden = size_t(heads) * size, stride = 3 * hidden;
    const float* sentence = qkv + size_t(tile.start) * stride + head * size;
    const float* upstream = dout + size_t(tile.start) * hidden + head * size;
    float* to = dqkv + size_t(tile.start) * stride + head * size;
    float *own1 = memory, *own2 = memory + rows, *other1 = memory + 2 * rows, *other2 = memory + 3 * rows;
    float *log_totals = memory + 4 * rows, *slopes = log_totals + SMALL_TILE;
    float* weights = slopes + SMALL_TILE + WARP * warp;
    // Role 0 owns queries and dO and iterates over keys and values; role 1 owns keys and values and iterates over queries and dO.
    bool of_keys = blockIdx.z == 1;
    const float *queries = sentence, *keys = sentence + hidden, *values = sentence + 2 * hidden;
    if (of_keys) {
        fill_small(own1, keys, stride, size, tile.first, tile.end);
        fill_small(own2, values, stride, size, tile.first, tile.end);
    } else {
        fill_small(own1, queries, stride, size, tile.first, tile.end);
        fill_small(own2, upstream, hidden, size, tile.first, tile.end);
    }
    float sum1[WARP_ROWS][LANE_COLUMNS] = {}, sum2[WARP_ROWS][LANE_COLUMNS] = {};
    for (int index = 0; index < tile.chunks<true>(of_keys, SMALL_TILE); index++) {
        const Chunk<true> chunk(tile, of_keys, index, SMALL_TILE);
        // The position of a query behind the placed ones: the lane's.
        bool by_spot = chunk.behind && positions != nullptr;
        int spot = by_spot ? positions[tile.start + min(chunk.first + lane, chunk.limit - 1)] : 0;
        __syncthreads();
        fill_small(other1, of_keys ? queries : keys, stride, size, chunk.first, chunk.limit);
        fill_small(other2, of_keys ? upstream : values, of_keys ? hidden : stride, size, chunk.first, chunk.limit);
        // Of the queries: those of the chunk, or the block's own.
        if (threadIdx.x < SMALL_TILE) {
            int query = (of_keys ? chunk.first : tile.first) + threadIdx.x;
            bool inside = query < (of_keys ? chunk.limit : tile.end);
            size_t at = size_t(tile.start + query) * heads + head;
            log_totals[threadIdx.x] = inside ? lse[at] : INFINITY;
            slopes[threadIdx.x] = inside ? delta[at] : 0.0f;
        }
        __syncthreads();
#pragma unroll
        for (int r = 0; r < WARP_ROWS; r++) {
            int row = WARP_ROWS * warp + r;
            int query = of_keys ? lane : row;  // within the rows above
            int token = tile.start + (of_keys ? chunk.first : tile.first) + query;
            int key = of_keys ? row : lane;  // as well
            int column = (of_keys ? tile.first : chunk.first) + key;
            if (chunk.own) column = tile.valid_length + key % tile.group;
            float score = dot(own1 + row * (size + 1), other1 + lane * (size + 1), size) * scale;
            int at = tile.position(positions, row);
            bool meets = Met<true>(tile, of_keys, chunk, row, at).has(lane);
            if (by_spot) meets = meets && abs(spot - at) <= tile.window;
            float p = meets ? expf(score - log_totals[query]) : 0.0f;
            float factor = kept_small(mask, token, head, heads, column);
            float dp = dot(own2 + row * (size + 1), other2 + lane * (size + 1), size) * factor;
            add_weighted(sum1[r], p * (dp - slopes[query]), other1, size, weights);
            if (of_keys) add_weighted(sum2[r], p * factor, other2, size, weights);
        }
    }
#pragma unroll
    for (int r = 0; r < WARP_ROWS; r++) {
        int token = tile.first + WARP_ROWS * warp + r;
        if (token >= tile.end) break;
        for (int i = 0; i < LANE_COLUMNS; i++) {
            int column = lane + i * WARP;
            if (column >= size) break;
            float* at = to + size_t(token) * stride + column;
            if (of_keys) {
                at[hidden] = sum1[r][i] * scale;
                at[2 * hidden] = sum2[r][i];
            } else {
                at[0] = sum1[r][i] * scale;
            }
        }
    }
}
