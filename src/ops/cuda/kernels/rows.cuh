// Embeddings and the small operations on rows and elements: Ops::embed, rotary, rows, add_rows, mean_rows, add, dropout, biases of products,
// and conversions.
#pragma once
#include "common.cuh"

// Sum of the word's, the position's and type 0's embedding. Grid: rows. `width` columns per row.
KERNEL(128, embed, int width, const uint32_t* ids, const uint32_t* positions, const float* word_table,
       const float* position_table, const float* type_table, float* out) {
    size_t row = blockIdx.x;
    const float* word = word_table + size_t(ids[row]) * width;
    const float* position = position_table + size_t(positions[row]) * width;
    for (int column = threadIdx.x; column < width; column += blockDim.x) {
        out[row * width + column] = word[column] + position[column] + type_table[column];
    }
}

// table[unique[i]] = sum of the rows order[first[i]] .. order[first[i + 1]] of x, in that order; other rows of the table
// are not touched. With `places` the table has the rows of the sums alone, and places[unique[i]] = 1 + i. A thread per column of a distinct row, so nothing races. Grid: distinct rows, width / 128.
KERNEL(128, scatter_rows, int width, const uint32_t* unique, const uint32_t* first, const uint32_t* order,
       const float* x, uint32_t* places, float* table) {
    int column = blockIdx.y * blockDim.x + threadIdx.x;
    if (column >= width) return;
    const float* own = x + column;
    uint32_t i = first[blockIdx.x], end = first[blockIdx.x + 1];
    float sum = 0.0f;
    // Four loads are under way at a time; the sum keeps its order.
    for (; i + 4 <= end; i += 4) {
        float four[4];
#pragma unroll
        for (int k = 0; k < 4; k++) four[k] = own[size_t(order[i + k]) * width];
#pragma unroll
        for (int k = 0; k < 4; k++) sum += four[k];
    }
    for (; i < end; i++) sum += own[size_t(order[i]) * width];
    uint32_t row = unique[blockIdx.x];
    if (places && column == 0) places[row] = blockIdx.x + 1;
    table[size_t(places ? blockIdx.x : row) * width + column] = sum;
}

// All rows of a table from some: values[places[row] - 1], or 0 where the place is 0. Grid: rows.
KERNEL(128, spread_rows, int width, const uint32_t* places, const float* values, float* table) {
    uint32_t place = places[blockIdx.x];
    const float* from = values + size_t(place - 1) * width;
    for (int column = threadIdx.x; column < width; column += blockDim.x) {
        table[size_t(blockIdx.x) * width + column] = place ? from[column] : 0.0f;
    }
}

// Ops::rotary: columns i and i + half of each head of the queries and keys are rotated by an angle of the row's position;
// `cosines` and `sines` are (positions, half). The values are copied. Grid: rows.
KERNEL(128, rotary, int heads, int half, const uint32_t* positions, const float* cosines, const float* sines, In x,
       Out out) {
    size_t row = blockIdx.x, table = size_t(positions[row]) * half;
    int pairs = 3 * heads * half;
    for (int pair = threadIdx.x; pair < pairs; pair += blockDim.x) {
        size_t at = 2 * (row * pairs + pair / half * half) + pair % half;
        float low[1], high[1];
        x.read<1>(at, low);
        x.read<1>(at + half, high);
        if (pair < 2 * heads * half) {
            float cosine = cosines[table + pair % half], sine = sines[table + pair % half];
            float turned = low[0] * cosine - high[0] * sine;
            high[0] = high[0] * cosine + low[0] * sine;
            low[0] = turned;
        }
        out.write<1>(at, low);
        out.write<1>(at + half, high);
    }
}

// out[i] = x[rows[i]]. Grid: rows.
KERNEL(128, gather_rows, int width, const uint32_t* rows, In x, Out out) {
    size_t from = size_t(rows[blockIdx.x]) * width, to = size_t(blockIdx.x) * width;
    for (int column = threadIdx.x; column < width; column += blockDim.x) {
        float value[1];
        x.read<1>(from + column, value);
        out.write<1>(to + column, value);
    }
}

// x[rows[i]] += values[i] for distinct rows. Grid: rows.
KERNEL(128, add_rows, int width, const uint32_t* rows, const float* values, float* x) {
    size_t to = size_t(rows[blockIdx.x]) * width, from = size_t(blockIdx.x) * width;
    for (int column = threadIdx.x; column < width; column += blockDim.x) x[to + column] += values[from + column];
}

// Ops::mean_rows: out[g] = mean of the rows[starts[g]] .. rows[starts[g + 1]] of x. Grid: groups.
KERNEL(128, mean_rows, int width, const uint32_t* starts, const uint32_t* rows, In x, float* out) {
    uint32_t first = starts[blockIdx.x], end = starts[blockIdx.x + 1];
    float share = 1.0f / float(end - first);
    for (int column = threadIdx.x; column < width; column += blockDim.x) {
        float sum = 0.0f;
        for (uint32_t i = first; i < end; i++) {
            float value[1];
            x.read<1>(size_t(rows[i]) * width + column, value);
            sum += value[0];
        }
        out[size_t(blockIdx.x) * width + column] = sum * share;
    }
}

// Its backward: out[r] = onto[r] + the sum of dy[g] / size of g over the groups g of row r, which are groups[first[r]] ..
// groups[first[r + 1]]. Without `onto` it starts at 0; it may be `out`. Grid: rows of x.
KERNEL(128, mean_rows_backward, int width, const uint32_t* starts, const uint32_t* first, const uint32_t* groups,
       const float* dy, const float* onto, float* out) {
    uint32_t begin = first[blockIdx.x], end = first[blockIdx.x + 1];
    if (begin == end && onto == out) return;
    for (int column = threadIdx.x; column < width; column += blockDim.x) {
        size_t at = size_t(blockIdx.x) * width + column;
        float sum = onto ? onto[at] : 0.0f;
        for (uint32_t i = begin; i < end; i++) {
            uint32_t group = groups[i];
            float share = 1.0f / float(starts[group + 1] - starts[group]);
            sum += share * dy[size_t(group) * width + column];
        }
        out[at] = sum;
    }
}

// out = a + b. Grid: elements / 256.
KERNEL(256, add, size_t elements, const float* a, const float* b, float* out) {
    size_t i = size_t(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i < elements) out[i] = a[i] + b[i];
}

// out += bias, for each row of `width`; both are of one element type. Grid: elements / 256.
KERNEL(256, add_bias, int width, size_t elements, In bias, Out out) {
    size_t i = size_t(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i >= elements) return;
    float sum[1], term[1];
    In{out.f32, out.half}.read<1>(i, sum);
    bias.read<1>(i % width, term);
    sum[0] += term[0];
    out.write<1>(i, sum);
}

// out = x in another element type, or in both. Grid: elements / 1024.
KERNEL(256, convert, size_t elements, In x, Out out) {
    size_t i = 4 * (size_t(blockIdx.x) * blockDim.x + threadIdx.x);
    if (i + 4 <= elements) {
        float value[4];
        x.read<4>(i, value);
        out.write<4>(i, value);
    } else {
        for (; i < elements; i++) {
            float value[1];
            x.read<1>(i, value);
            out.write<1>(i, value);
        }
    }
}

// out = x times the mask, or the mask itself where `x` is null. Grid: elements / 1024.
KERNEL(256, dropout, size_t elements, const float* x, Mask mask, float* out) {
    size_t i = 4 * (size_t(blockIdx.x) * blockDim.x + threadIdx.x);
    if (i + 4 <= elements) {
        float value[4] = {1.0f, 1.0f, 1.0f, 1.0f};
        if (x) load<4>(x + i, value);
        mask.apply<4>(i, value);
        store<4>(out + i, value);
    } else {
        for (; i < elements; i++) {
            float value[1] = {x ? x[i] : 1.0f};
            mask.apply<1>(i, value);
            out[i] = value[0];
        }
    }
}
