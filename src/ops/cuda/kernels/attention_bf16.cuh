// Attention inside each sentence on tensor cores, for heads of 32, 64, 96 or 128: Ops::attention and its backward.
//
// FlashAttention-2's scheme (Dao 2023) over packed sentences. A block of 4 warps owns 64 rows of one sentence and head, 16
// a warp; it goes over the sentence 64 rows at a time. Only the log of each softmax's denominator is kept; the backward
// computes the probabilities again. It runs in two roles (blockIdx.z): role 0 owns queries and sums dQ, role 1 owns keys and
// sums dK and dV, on the transposed scores, so that their fragments are already the left operands of its products. That
// costs two products more than one pass would, and needs neither atomics nor a second kernel that adds dQ, nor one before it.
//
// Dropout: the keep bits of a 16 x 8 tile of probabilities are 32 blocks of the generator, one per lane, exchanged by shuffles. The scale of the kept elements is factored out of the sums.
#pragma once
#include "common.cuh"

constexpr int TILE = 64;
constexpr float LOG2_E = 1.4426950408889634f;

// The window of tokens that attend to all others.
constexpr int EVERYWHERE = 1 << 29;

// The rows that a block owns: first..end of a sentence that starts at token `start`, has `length` tokens, and of whose
// tokens the first `valid_length` are attended to by all. With `group` > 0 the rows are whole groups of that many tokens,
// which also attend to their own group; such a tile has none of the valid tokens. The kernels without GROUPS are for
// batches that have neither groups nor windows: the others need more registers.
struct Tile {
    int start, length, first, end, valid_length, group;
    // How far its rows attend to each side, and the lowest and the highest of their positions. With a window all rows are
    // valid, or none is.
    int window, lowest, highest;

    // The position of one of the rows: its place in the sentence, or what `positions` says of a token of a group. Only
    // batches with groups and a window have `positions`.
    DEVICE int position(const int* positions, int row) const {
        int token = min(first + row, end - 1);
        return positions != nullptr && group > 0 ? positions[start + token] : token;
    }

    // How many tokens of the other side are met by their place: with a window, those behind the valid ones have other
    // positions, or none.
    template <bool GROUPS>
    DEVICE int placed(bool of_keys) const {
        return !of_keys || (GROUPS && window < EVERYWHERE) ? valid_length : length;
    }

    // The chunks before the first that a row of the tile meets.
    template <bool GROUPS>
    DEVICE int skipped(int rows) const {
        return GROUPS ? max(0, lowest - window) / rows : 0;
    }

    // How many chunks of `rows` of the placed tokens a block goes over.
    template <bool GROUPS>
    DEVICE int placed_chunks(bool of_keys, int rows) const {
        int reach = GROUPS ? highest + 1 + window : length;
        return max(0, (min(placed<GROUPS>(of_keys), reach) + rows - 1) / rows - skipped<GROUPS>(rows));
    }

    // How many chunks it goes over: queries meet the valid keys and then their own groups; valid keys meet all queries,
    // those of a group its own queries, and others none.
    template <bool GROUPS>
    DEVICE int chunks(bool of_keys, int rows) const {
        bool grouped = GROUPS && group > 0;
        if (!of_keys) return placed_chunks<GROUPS>(false, rows) + grouped;
        if (grouped) return 1;
        if (first >= valid_length) return 0;
        return placed_chunks<GROUPS>(true, rows) + (length - placed<GROUPS>(true) + rows - 1) / rows;
    }
};

// The rows first..limit of the other side, of which a block takes as many at a time as it owns. They may be its own groups,
// or queries behind the placed ones.
template <bool GROUPS>
struct Chunk {
    int first, limit;
    bool own, behind;

    DEVICE Chunk(const Tile& tile, bool of_keys, int index, int rows) {
        int placed = tile.placed<GROUPS>(of_keys), more = GROUPS ? index - tile.placed_chunks<GROUPS>(of_keys, rows) : -1;
        own = GROUPS && tile.group > 0 && (of_keys || more >= 0);
        behind = !own && more >= 0;
        first = own ? tile.first : behind ? placed + more * rows : (tile.skipped<GROUPS>(rows) + index) * rows;
        limit = own ? tile.end : behind ? tile.length : placed;
    }
};

// Below any score.
constexpr float LOWEST = -1e30f;

// Which rows of a chunk a row of the tile meets: low..high, both counted from the first. Of queries behind the placed ones
// those whose position is near.
template <bool GROUPS>
struct Met {
    int low, high;

    // `position` is that of the row.
    DEVICE Met(const Tile& tile, bool of_keys, const Chunk<GROUPS>& chunk, int row, int position) {
        low = chunk.own ? row - row % tile.group : 0;
        high = chunk.limit - chunk.first;
        if (chunk.own) high = min(high, low + tile.group);
        if (GROUPS && !chunk.own && !chunk.behind) {
            int at = position - chunk.first;
            low = max(low, at - tile.window);
            high = min(high, at + tile.window + 1);
        }
        if (of_keys && !chunk.own && tile.first + row >= tile.valid_length) high = 0;
    }

    DEVICE bool has(int row) const { return (!GROUPS || low <= row) && row < high; }
};

// Rows of D elements in shared memory, 8 apart more than they are long, which spreads 8 rows over all banks.
template <int D>
struct Rows {
    static constexpr int STRIDE = D + 8;
    static constexpr int BYTES = TILE * STRIDE * 2;
    bf16* at;

    // Copy rows `first`.. of a sentence, zeros from `limit` on. `from` is the head's first element in the sentence's
    // first row, `stride` the elements of a row of the matrix. Called by all threads of the block.
    DEVICE void fill(const bf16* from, size_t stride, int first, int limit) const {
        constexpr int PIECES = D / 8;
        for (int i = threadIdx.x; i < TILE * PIECES; i += blockDim.x) {
            int row = i / PIECES, column = i % PIECES * 8;
            uint4 piece = make_uint4(0, 0, 0, 0);
            if (first + row < limit) {
                piece = *reinterpret_cast<const uint4*>(from + size_t(first + row) * stride + column);
            }
            *reinterpret_cast<uint4*>(at + row * STRIDE + column) = piece;
        }
    }

    // Left operand: rows row..row + 16, columns column..column + 16.
    DEVICE void left(uint32_t (&a)[4], int row, int column) const {
        int lane = threadIdx.x % WARP;
        load_matrices<false>(a, at + (row + lane % 16) * STRIDE + column + lane / 16 * 8);
    }

    // Right operand whose columns are our rows, columns column..column + 32 of rows row..row + 8: two steps of 16 of the
    // inner index.
    DEVICE void right_of_rows(uint32_t (&b)[4], int row, int column) const {
        int lane = threadIdx.x % WARP;
        load_matrices<false>(b, at + (row + lane % 8) * STRIDE + column + lane / 8 * 8);
    }

    // Right operand whose rows are our rows row..row + 16, columns column..column + 16: two tiles of 8 columns.
    DEVICE void right(uint32_t (&b)[4], int row, int column) const {
        int lane = threadIdx.x % WARP;
        load_matrices<true>(b, at + (row + lane % 16) * STRIDE + column + lane / 16 * 8);
    }
};

// The 16 x 16 product of 16 of the block's rows (`a`: left operands of their D columns) with rows row..row + 16 of `other`:
// c[n][..] is the tile of columns 8n..
template <int D>
DEVICE void products(float (&c)[2][4], const uint32_t (&a)[D / 16][4], const Rows<D>& other, int row) {
#pragma unroll
    for (int n = 0; n < 2; n++) {
#pragma unroll
        for (int i = 0; i < 4; i++) c[n][i] = 0.0f;
#pragma unroll
        for (int k = 0; k < D / 32; k++) {
            uint32_t b[4];
            other.right_of_rows(b, row + 8 * n, 32 * k);
            mma(c[n], a[2 * k], b[0], b[1]);
            mma(c[n], a[2 * k + 1], b[2], b[3]);
        }
    }
}

// sum += P X for a 16 x 16 tile of P (as the results of two 16 x 8 products) and rows row..row + 16 of X.
template <int D>
DEVICE void accumulate(float (&sum)[D / 8][4], const float (&p)[2][4], const Rows<D>& x, int row) {
    uint32_t a[4] = {pack_bf16(p[0][0], p[0][1]), pack_bf16(p[0][2], p[0][3]), pack_bf16(p[1][0], p[1][1]),
                     pack_bf16(p[1][2], p[1][3])};
#pragma unroll
    for (int n = 0; n < D / 16; n++) {
        uint32_t b[4];
        x.right(b, row, 16 * n);
        mma(sum[2 * n], a, b[0], b[1]);
        mma(sum[2 * n + 1], a, b[2], b[3]);
    }
}

template <int D>
DEVICE void left_operands(uint32_t (&a)[D / 16][4], const Rows<D>& rows, int row) {
#pragma unroll
    for (int k = 0; k < D / 16; k++) rows.left(a[k], row, 16 * k);
}

// Rows `row` and `row + 8` of a result, times a factor each, to bf16; rows from `limit` on are left out.
template <int D>
DEVICE void write_rows(bf16* to, size_t stride, int row, int limit, const float (&x)[D / 8][4], float low, float high) {
    int t = threadIdx.x % 4;
#pragma unroll
    for (int n = 0; n < D / 8; n++) {
        int column = 8 * n + 2 * t;
        if (row < limit) {
            *reinterpret_cast<uint32_t*>(to + size_t(row) * stride + column) = pack_bf16(x[n][0] * low, x[n][1] * low);
        }
        if (row + 8 < limit) {
            *reinterpret_cast<uint32_t*>(to + size_t(row + 8) * stride + column) =
                pack_bf16(x[n][2] * high, x[n][3] * high);
        }
    }
}

// Block of the generator for the key quad `key / 4` of a token and head.
DEVICE uint32_t quad_of(const Mask& mask, int token, int head, int heads, int key) {
    return uint32_t((size_t(token) * heads + head) * mask.row_blocks + key / 4);
}

// Keep bits of a 16 (queries) x 8 (keys) tile in the order of a product's result: bit i for c[i].
DEVICE uint32_t kept_by_query(const Mask& mask, int token, int head, int heads, int key) {
    int lane = threadIdx.x % WARP, g = lane / 4, t = lane % 4;
    uint32_t mine = mask.kept(quad_of(mask, token + lane / 2, head, heads, key + lane % 2 * 4));
    uint32_t low = __shfl_sync(FULL, mine, 2 * g + t / 2) >> (t % 2 * 2);
    uint32_t high = __shfl_sync(FULL, mine, 2 * (g + 8) + t / 2) >> (t % 2 * 2);
    return (low & 3) | (high & 3) << 2;
}

// The same for a 16 (keys) x 8 (queries) tile.
DEVICE uint32_t kept_by_key(const Mask& mask, int token, int head, int heads, int key) {
    int lane = threadIdx.x % WARP, g = lane / 4, t = lane % 4;
    uint32_t mine = mask.kept(quad_of(mask, token + lane / 4, head, heads, key + lane % 4 * 4));
    uint32_t bits = 0;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        uint32_t quad = __shfl_sync(FULL, mine, (2 * t + i % 2) * 4 + g / 4 + i / 2 * 2);
        bits |= (quad >> (g % 4) & 1) << i;
    }
    return bits;
}

// The same for a tile of a block's own groups: 16 rows of the block and 8 that they meet, queries or keys.
DEVICE uint32_t kept_in_groups(const Mask& mask, const Tile& tile, bool of_keys, int head, int heads, int row, int met_row) {
    int lane = threadIdx.x % WARP, g = lane / 4, t = lane % 4;
    uint32_t bits = 0;
#pragma unroll 1
    for (int i = 0; i < 4; i++) {
        int mine = row + g + i / 2 * 8, met = met_row + 2 * t + i % 2;
        int query = of_keys ? met : mine, key = of_keys ? mine : met;
        if (query / tile.group != key / tile.group) continue;
        int column = tile.valid_length + key % tile.group;
        bits |= (mask.kept(quad_of(mask, tile.start + tile.first + query, head, heads, column)) >> (column % 4) & 1) << i;
    }
    return bits;
}

// Grid: tiles, heads. Shared memory: two tiles of rows. `lse` (tokens, heads), base 2.
template <int D, bool GROUPS>
DEVICE void attention(const Tile* tiles, const int* positions, int heads, const bf16* qkv, float scale, Mask mask,
                      bf16* out, float* lse) {
    SHARED(bf16, memory);
    Rows<D> keys{memory}, values{memory + TILE * Rows<D>::STRIDE};
    const Tile tile = tiles[blockIdx.x];
    int head = blockIdx.y, warp = threadIdx.x / WARP, lane = threadIdx.x % WARP, t = lane % 4;
    size_t hidden = size_t(heads) * D, stride = 3 * hidden;
    const bf16* sentence = qkv + size_t(tile.start) * stride + head * D;
    // The queries pass through the memory of the keys.
    keys.fill(sentence, stride, tile.first, tile.end);
    __syncthreads();
    uint32_t q[D / 16][4];
    left_operands<D>(q, keys, 16 * warp);
    int row = tile.first + 16 * warp + lane / 4;  // and row + 8
    const int at[2] = {tile.position(positions, row - tile.first), tile.position(positions, row - tile.first + 8)};
    float sum[D / 8][4] = {};
    float top[2] = {LOWEST, LOWEST}, total[2] = {0.0f, 0.0f};
    scale *= LOG2_E;
    for (int index = 0; index < tile.chunks<GROUPS>(false, TILE); index++) {
        const Chunk<GROUPS> chunk(tile, false, index, TILE);
        const Met<GROUPS> met_by[2] = {{tile, false, chunk, row - tile.first, at[0]},
                                       {tile, false, chunk, row - tile.first + 8, at[1]}};
        __syncthreads();
        keys.fill(sentence + hidden, stride, chunk.first, chunk.limit);
        values.fill(sentence + 2 * hidden, stride, chunk.first, chunk.limit);
        __syncthreads();
        float p[TILE / 16][2][4];
        float highest[2] = {top[0], top[1]};
#pragma unroll
        for (int j = 0; j < TILE / 16; j++) {
            products<D>(p[j], q, keys, 16 * j);
#pragma unroll
            for (int n = 0; n < 2; n++) {
#pragma unroll
                for (int i = 0; i < 4; i++) {
                    bool met = met_by[i / 2].has(16 * j + 8 * n + 2 * t + i % 2);
                    p[j][n][i] = met ? p[j][n][i] * scale : -INFINITY;
                    highest[i / 2] = fmaxf(highest[i / 2], p[j][n][i]);
                }
            }
        }
        // The four lanes of a row; `highest` is finite, even where a chunk has no key of the row's window.
#pragma unroll
        for (int half = 0; half < 2; half++) {
            highest[half] = fmaxf(highest[half], __shfl_xor_sync(FULL, highest[half], 1));
            highest[half] = fmaxf(highest[half], __shfl_xor_sync(FULL, highest[half], 2));
            float shrink = power_of_two(top[half] - highest[half]);
            top[half] = highest[half];
            total[half] *= shrink;
#pragma unroll
            for (int n = 0; n < D / 8; n++) {
                sum[n][2 * half] *= shrink;
                sum[n][2 * half + 1] *= shrink;
            }
        }
#pragma unroll
        for (int j = 0; j < TILE / 16; j++) {
#pragma unroll
            for (int n = 0; n < 2; n++) {
                uint32_t bits = 15;
                if (mask.keep) {
                    int token = tile.start + tile.first + 16 * warp, from = 16 * j + 8 * n;
                    bits = chunk.own ? kept_in_groups(mask, tile, false, head, heads, 16 * warp, from)
                                     : kept_by_query(mask, token, head, heads, chunk.first + from);
                }
#pragma unroll
                for (int i = 0; i < 4; i++) {
                    p[j][n][i] = power_of_two(p[j][n][i] - top[i / 2]);
                    total[i / 2] += p[j][n][i];
                    if (!(bits >> i & 1)) p[j][n][i] = 0.0f;
                }
            }
            accumulate<D>(sum, p[j], values, 16 * j);
        }
    }
    float factor[2];
#pragma unroll
    for (int half = 0; half < 2; half++) {
        total[half] += __shfl_xor_sync(FULL, total[half], 1);
        total[half] += __shfl_xor_sync(FULL, total[half], 2);
        factor[half] = (mask.keep ? mask.scale : 1.0f) / total[half];
        int token = row + 8 * half;
        if (t == 0 && token < tile.end) {
            lse[size_t(tile.start + token) * heads + head] = top[half] + log2f(total[half]);
        }
    }
    bf16* to = out + size_t(tile.start) * hidden + head * D;
    write_rows<D>(to, hidden, row, tile.end, sum, factor[0], factor[1]);
}

// What the backward needs of 64 queries from row `first` on: the log of the softmax's denominator, and
// rowsum(dO O), which is rowsum(P dP). Queries from `limit` on have no probabilities. Two threads take a row; called by
// all threads of the block. `lse`, `upstream` and `out` start at the sentence.
template <int D>
DEVICE void facts_of_queries(float* log_totals, float* slopes, int first, int limit, const float* lse, int heads,
                             const bf16* upstream, const bf16* out, size_t stride) {
    int row = threadIdx.x / 2, half = threadIdx.x % 2;
    bool inside = first + row < limit;
    float sum = 0.0f;
    for (int column = half * (D / 2); inside && column < (half + 1) * (D / 2); column += 4) {
        float d[4], o[4];
        load<4>(upstream + size_t(first + row) * stride + column, d);
        load<4>(out + size_t(first + row) * stride + column, o);
#pragma unroll
        for (int i = 0; i < 4; i++) sum += d[i] * o[i];
    }
    sum += __shfl_xor_sync(FULL, sum, 1);
    if (half == 0) {
        log_totals[row] = inside ? lse[size_t(first + row) * heads] : INFINITY;
        slopes[row] = sum;
    }
}

// The gradients of a block's 64 rows, in one of two roles. With S the scores, P the probabilities, M the mask:
// dP = (dO Vᵀ) M, dS = P (dP - rowsum(P dP)), and
// of queries (with keys and values): dQ = dS K;
// of keys (with queries and dO, on the transposed scores): dK = dSᵀ Q, dV = (P M)ᵀ dO.
template <int D, bool OF_KEYS, bool GROUPS>
DEVICE void attention_backward(const Tile& tile, const int* positions, int heads, const bf16* qkv, const bf16* dout,
                               const bf16* out, float scale, const Mask& mask, const float* lse, bf16* dqkv,
                               bf16* memory) {
    // The rows of the other side: keys or queries, values or dO.
    Rows<D> met{memory}, with{memory + TILE * Rows<D>::STRIDE};
    float* log_totals = reinterpret_cast<float*>(memory + 2 * TILE * Rows<D>::STRIDE);
    float* slopes = log_totals + TILE;
    // Of keys with GROUPS: the positions of the queries behind the placed ones.
    int* spots = reinterpret_cast<int*>(slopes + TILE);
    int head = blockIdx.y, warp = threadIdx.x / WARP, lane = threadIdx.x % WARP, t = lane % 4;
    size_t hidden = size_t(heads) * D, stride = 3 * hidden, start = tile.start;
    const bf16 *queries = qkv + start * stride + head * D, *keys = queries + hidden, *values = keys + hidden;
    const bf16 *upstream = dout + start * hidden + head * D, *output = out + start * hidden + head * D;
    const float* logs = lse + start * heads + head;
    // The block's own rows pass through the memory of the other side's.
    met.fill(OF_KEYS ? keys : queries, stride, tile.first, tile.end);
    with.fill(OF_KEYS ? values : upstream, OF_KEYS ? stride : hidden, tile.first, tile.end);
    if (!OF_KEYS) facts_of_queries<D>(log_totals, slopes, tile.first, tile.end, logs, heads, upstream, output, hidden);
    __syncthreads();
    uint32_t own[D / 16][4], other[D / 16][4];
    left_operands<D>(own, met, 16 * warp);
    left_operands<D>(other, with, 16 * warp);
    int mine = 16 * warp + lane / 4;  // and mine + 8: rows of the block
    const int at[2] = {tile.position(positions, mine), tile.position(positions, mine + 8)};
    float log_total[2] = {}, slope[2] = {};
#pragma unroll
    for (int half = 0; half < 2 && !OF_KEYS; half++) {
        log_total[half] = log_totals[mine + 8 * half];
        slope[half] = slopes[mine + 8 * half];
    }
    float sum[D / 8][4] = {}, of_values[D / 8][4] = {};
    for (int index = 0; index < tile.chunks<GROUPS>(OF_KEYS, TILE); index++) {
        const Chunk<GROUPS> chunk(tile, OF_KEYS, index, TILE);
        const Met<GROUPS> met_by[2] = {{tile, OF_KEYS, chunk, mine, at[0]}, {tile, OF_KEYS, chunk, mine + 8, at[1]}};
        bool by_spot = GROUPS && OF_KEYS && chunk.behind && positions != nullptr;
        __syncthreads();
        met.fill(OF_KEYS ? queries : keys, stride, chunk.first, chunk.limit);
        with.fill(OF_KEYS ? upstream : values, OF_KEYS ? hidden : stride, chunk.first, chunk.limit);
        if (OF_KEYS) facts_of_queries<D>(log_totals, slopes, chunk.first, chunk.limit, logs, heads, upstream, output, hidden);
        if (by_spot && threadIdx.x < TILE) {
            spots[threadIdx.x] = positions[start + min(chunk.first + int(threadIdx.x), chunk.limit - 1)];
        }
        __syncthreads();
#pragma unroll 1
        for (int j = 0; j < TILE / 16; j++) {
            float p[2][4], ds[2][4];
            products<D>(p, own, met, 16 * j);
            products<D>(ds, other, with, 16 * j);
#pragma unroll
            for (int n = 0; n < 2; n++) {
                uint32_t bits = 15;
                float kept = 1.0f;
                if (mask.keep) {
                    int from = chunk.first + 16 * j + 8 * n, block = tile.first + 16 * warp;
                    bits = chunk.own ? kept_in_groups(mask, tile, OF_KEYS, head, heads, 16 * warp, 16 * j + 8 * n)
                           : OF_KEYS ? kept_by_key(mask, tile.start + from, head, heads, block)
                                     : kept_by_query(mask, tile.start + block, head, heads, from);
                    kept = mask.scale;
                }
#pragma unroll
                for (int i = 0; i < 4; i++) {
                    int met_row = 16 * j + 8 * n + 2 * t + i % 2;
                    bool meets = met_by[i / 2].has(met_row);
                    if (by_spot) meets = meets && abs(spots[met_row] - at[i / 2]) <= tile.window;
                    float total = OF_KEYS ? log_totals[met_row] : log_total[i / 2];
                    float weight = meets ? power_of_two(p[n][i] * scale * LOG2_E - total) : 0.0f;
                    bool keep = bits >> i & 1;
                    float dp = keep ? ds[n][i] * kept : 0.0f;
                    ds[n][i] = weight * (dp - (OF_KEYS ? slopes[met_row] : slope[i / 2]));
                    p[n][i] = keep ? weight : 0.0f;
                }
            }
            if (OF_KEYS) accumulate<D>(of_values, p, with, 16 * j);
            accumulate<D>(sum, ds, met, 16 * j);
        }
    }
    bf16* to = dqkv + start * stride + head * D;
    write_rows<D>(OF_KEYS ? to + hidden : to, stride, tile.first + mine, tile.end, sum, scale, scale);
    if (OF_KEYS) {
        float kept = mask.keep ? mask.scale : 1.0f;
        write_rows<D>(to + 2 * hidden, stride, tile.first + mine, tile.end, of_values, kept, kept);
    }
}

#define ATTENTION(NAME, D, GROUPS)                                                                                      \
    KERNEL(128, attention_##NAME, const Tile* tiles, const int* positions, int heads, const bf16* qkv, float scale,    \
           Mask mask, bf16* out, float* lse) {                                                                         \
        attention<D, GROUPS>(tiles, positions, heads, qkv, scale, mask, out, lse);                                     \
    }                                                                                                                  \
    /* Grid: tiles, heads, roles (2). Shared memory: two tiles of rows and three floats a row. */                      \
    KERNEL(128, attention_backward_##NAME, const Tile* tiles, const int* positions, int heads, const bf16* qkv,        \
           const bf16* dout, const bf16* out, float scale, Mask mask, const float* lse, bf16* dqkv) {                  \
        SHARED(bf16, memory);                                                                                          \
        const Tile tile = tiles[blockIdx.x];                                                                           \
        if (blockIdx.z == 0) {                                                                                         \
            attention_backward<D, false, GROUPS>(tile, positions, heads, qkv, dout, out, scale, mask, lse, dqkv,       \
                                                 memory);                                                              \
        } else {                                                                                                       \
            attention_backward<D, true, GROUPS>(tile, positions, heads, qkv, dout, out, scale, mask, lse, dqkv,        \
                                                memory);                                                               \
        }                                                                                                              \
    }
ATTENTION(32, 32, false)
ATTENTION(64, 64, false)
ATTENTION(96, 96, false)
ATTENTION(128, 128, false)
ATTENTION(groups_32, 32, true)
ATTENTION(groups_64, 64, true)
ATTENTION(groups_96, 96, true)
ATTENTION(groups_128, 128, true)
