// Features and messages of the encoder (protok/model/encoder.py) for one thread, see native.py.
//
// The same mathematics as in torch, fused: all pairs of a block are looked at once, and messages
// never leave the registers. Matrices are row-major; rotations have the axes of a frame as columns.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

// Floats of a vector, and edges worked on together: what fills the registers and no more. Longer
// vectors than the processor's would be kept in memory.
#if defined __AVX512F__
#define LANES 16
#define TOGETHER 8
#elif defined __AVX__
#define LANES 8
#define TOGETHER 6
#else
#define LANES 4
#define TOGETHER 6
#endif
typedef float V __attribute__((vector_size(4 * LANES)));
typedef int32_t I __attribute__((vector_size(4 * LANES)));

namespace {

constexpr int BLOCK = 32, FAR = 32, RBF = 16, EDGE = 34, LOCAL = 11, PLACE = 14;
constexpr int RADII = 3, MOMENTS = 10;
constexpr float RADIUS[RADII] = {10.0f, 18.0f, 30.0f};
constexpr float PI = 3.14159265358979f;

inline V load(const float *p) { V v; std::memcpy(&v, p, sizeof v); return v; }
inline void store(float *p, V v) { std::memcpy(p, &v, sizeof v); }
inline V fill(float x) { return x - V{}; }
inline V select(I mask, V a, V b) { return (V)(((I)a & mask) | ((I)b & ~mask)); }
inline V larger(V a, V b) { return select(a > b, a, b); }
inline V smaller(V a, V b) { return select(a < b, a, b); }

inline float total(V v) {
    float sum = 0;
    for (int i = 0; i < LANES; i++) sum += v[i];
    return sum;
}

struct P { float x, y, z; };
inline P operator-(P a, P b) { return {a.x - b.x, a.y - b.y, a.z - b.z}; }
inline P operator*(P a, float s) { return {a.x * s, a.y * s, a.z * s}; }
inline float dot(P a, P b) { return a.x * b.x + a.y * b.y + a.z * b.z; }
inline P cross(P a, P b) {
    return {a.y * b.z - a.z * b.y, a.z * b.x - a.x * b.z, a.x * b.y - a.y * b.x};
}
inline P unit(P a, float eps) { return a * (1.0f / std::max(std::sqrt(dot(a, a)), eps)); }
inline P atom(const float *coords, int64_t i, int slot) {
    const float *p = coords + 12 * i + 3 * slot;
    return {p[0], p[1], p[2]};
}

struct Frame { P x, y, z; };
inline P within(const Frame &f, P v) { return {dot(f.x, v), dot(f.y, v), dot(f.z, v)}; }

Frame frame(const float *coords, int64_t i) {
    P ca = atom(coords, i, 1), x = unit(atom(coords, i, 2) - ca, 1e-6f), v = atom(coords, i, 0) - ca;
    P y = unit(v - x * dot(v, x), 1e-6f);
    return {x, y, cross(x, y)};
}

// Sine and cosine of the dihedral angle a-b-c-d.
void dihedral(P a, P b, P c, P d, float *sine, float *cosine) {
    P u = b - a, v = c - b, w = d - c, m = cross(u, v), n = cross(v, w);
    float y = dot(cross(m, n), unit(v, 1e-9f)), x = dot(m, n), r = std::sqrt(x * x + y * y);
    *sine = r > 0 ? y / r : 0.0f;
    *cosine = r > 0 ? x / r : 1.0f;
}

// e to the x for x <= 0, to the last digits of a float.
inline V exponential(V x) {
    x = larger(x, fill(-80.0f)) * 1.44269504f;
    V whole = __builtin_convertvector(__builtin_convertvector(x - 0.5f, I), V), f = x - whole;
    V p = fill(1.5403530e-4f);
    p = p * f + 1.3333558e-3f;
    p = p * f + 9.6181291e-3f;
    p = p * f + 5.5504109e-2f;
    p = p * f + 0.24022651f;
    p = p * f + 0.69314718f;
    p = p * f + 1.0f;
    I shift = (__builtin_convertvector(whole, I) + 127) << 23;
    return p * (V)shift;
}

struct Box { float low[3], high[3]; };

inline float gap(const Box &a, const Box &b) {
    float sum = 0;
    for (int k = 0; k < 3; k++) {
        float d = std::max({0.0f, a.low[k] - b.high[k], b.low[k] - a.high[k]});
        sum += d * d;
    }
    return sum;
}

// Points of one structure in blocks of neighbours along the chain, which lie together.
struct Points {
    std::vector<int32_t> rows;
    std::vector<float> axis[3];
    std::vector<Box> boxes;

    Points(const float *coords, const uint8_t *mask, int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; i++)
            if (mask[i]) rows.push_back((int32_t)i);
        size_t padded = (rows.size() + BLOCK - 1) / BLOCK * BLOCK;
        for (int k = 0; k < 3; k++) {
            axis[k].assign(padded, 1e9f);  // beyond every reach
            for (size_t j = 0; j < rows.size(); j++) axis[k][j] = coords[12 * (int64_t)rows[j] + 3 + k];
        }
        for (size_t from = 0; from < rows.size(); from += BLOCK) {
            size_t to = std::min(from + BLOCK, rows.size());
            Box box;
            for (int k = 0; k < 3; k++) {
                auto ends = std::minmax_element(axis[k].begin() + from, axis[k].begin() + to);
                box.low[k] = *ends.first;
                box.high[k] = *ends.second;
            }
            boxes.push_back(box);
        }
    }
    Box point(size_t j) const {
        Box box;
        for (int k = 0; k < 3; k++) box.low[k] = box.high[k] = axis[k][j];
        return box;
    }
};

// Moments of the residues around point j, in its frame: see geometry.density_moments.
void density(const Points &points, size_t j, const Frame &own, const std::vector<int> &blocks,
             const std::vector<float> &gaps, float *out) {
    V here[3];
    for (int k = 0; k < 3; k++) here[k] = fill(points.axis[k][j]);
    for (int r = 0; r < RADII; r++, out += MOMENTS) {
        float radius = RADIUS[r], scale = -1.0f / (radius * radius);
        V sums[MOMENTS] = {};
        for (size_t b = 0; b < blocks.size(); b++) {
            if (gaps[b] >= radius * radius) continue;
            for (int part = 0; part < BLOCK; part += LANES) {
                size_t from = (size_t)blocks[b] * BLOCK + part;
                V x = load(&points.axis[0][from]) - here[0], y = load(&points.axis[1][from]) - here[1],
                  z = load(&points.axis[2][from]) - here[2];
                V w = larger((x * x + y * y + z * z) * scale + 1.0f, V{});
                w *= w;
                V wx = w * x, wy = w * y, wz = w * z;
                sums[0] += w; sums[1] += wx; sums[2] += wy; sums[3] += wz;
                sums[4] += wx * x; sums[5] += wx * y; sums[6] += wx * z;
                sums[7] += wy * y; sums[8] += wy * z; sums[9] += wz * z;
            }
        }
        float s[MOMENTS];
        for (int m = 0; m < MOMENTS; m++) s[m] = total(sums[m]);
        float weight = 1.0f / std::max(s[0], 1.0f);
        out[0] = std::log1p(s[0]);
        P mean = within(own, {s[1], s[2], s[3]}) * (weight / radius);
        out[1] = mean.x; out[2] = mean.y; out[3] = mean.z;
        P axes[3] = {own.x, own.y, own.z};
        int at = 4;
        for (int a = 0; a < 3; a++) {
            P v = axes[a];
            P row = {s[4] * v.x + s[5] * v.y + s[6] * v.z, s[5] * v.x + s[7] * v.y + s[8] * v.z,
                     s[6] * v.x + s[8] * v.y + s[9] * v.z};
            for (int b = a; b < 3; b++) out[at++] = dot(row, axes[b]) * weight / (radius * radius);
        }
    }
}

// The `take` nearest points of point j, itself excluded, among `blocks`; false if there are not
// so many within `reach`, beyond which some may be missing.
bool nearest(const Points &points, size_t j, const std::vector<int> &blocks,
             const std::vector<float> &gaps, int take, float reach,
             std::vector<uint64_t> &found) {
    V here[3];
    for (int k = 0; k < 3; k++) here[k] = fill(points.axis[k][j]);
    for (float limit = 100.0f;; limit *= 2.25f) {
        float most = std::min(limit, reach);
        found.clear();
        for (size_t b = 0; b < blocks.size(); b++) {
            if (gaps[b] > most) continue;
            for (int part = 0; part < BLOCK; part += LANES) {
                size_t from = (size_t)blocks[b] * BLOCK + part;
                V x = load(&points.axis[0][from]) - here[0], y = load(&points.axis[1][from]) - here[1],
                  z = load(&points.axis[2][from]) - here[2];
                V d = x * x + y * y + z * z;
                uint32_t bits[LANES];
                float squares[LANES];
                std::memcpy(bits, &d, sizeof bits);  // of positive floats they sort alike
                std::memcpy(squares, &d, sizeof squares);
                for (int i = 0; i < LANES; i++)
                    if (squares[i] <= most && from + i != j && from + i < points.rows.size())
                        found.push_back((uint64_t)bits[i] << 32 | (uint32_t)(from + i));
            }
        }
        if ((int)found.size() >= take || most >= reach) break;
    }
    bool enough = (int)found.size() >= take;
    std::partial_sort(found.begin(), enough ? found.begin() + take : found.end(), found.end());
    return enough;
}

void edge(const float *coords, const Frame *frames, int64_t i, int64_t j, float *out) {
    const Frame &own = frames[i], &other = frames[j];
    P shift = atom(coords, j, 1) - atom(coords, i, 1), local = within(own, shift);
    float distance = std::max(std::sqrt(dot(shift, shift)), 1e-4f), inverse = 1.0f / distance;
    P back = within(other, shift);
    P rows[3] = {own.x, own.y, own.z}, columns[3] = {other.x, other.y, other.z};
    float *at = out;
    for (float v : {local.x, local.y, local.z}) *at++ = v * 0.1f;
    for (float v : {local.x, local.y, local.z}) *at++ = v * inverse;
    for (const P &row : rows)
        for (const P &column : columns) *at++ = dot(row, column);
    for (float v : {back.x, back.y, back.z}) *at++ = -v * inverse;
    for (int from = 0; from < RBF; from += LANES) {
        V away;
        for (int c = 0; c < LANES; c++) away[c] = distance - (2.0f + (from + c) * (20.0f / (RBF - 1)));
        away *= 1.0f / 1.5f;
        store(at + from, exponential(-away * away));
    }
}

// Torsions and bonds of residue i; `after` and `before` say to which it is bonded.
void local(const float *coords, int64_t i, bool before, bool after, float *out) {
    P n = atom(coords, i, 0), ca = atom(coords, i, 1), c = atom(coords, i, 2);
    if (before) dihedral(atom(coords, i - 1, 2), n, ca, c, out, out + 3);
    if (after) {
        P next = atom(coords, i + 1, 0);
        dihedral(n, ca, c, next, out + 1, out + 4);
        dihedral(ca, c, next, atom(coords, i + 1, 1), out + 2, out + 5);
    }
    out[6] = out[9] = before;
    out[7] = out[8] = out[10] = after;
}

// Place in the frame of the chain, see geometry.chain_frame; rows of one chain.
void placement(const float *coords, const uint8_t *mask, const Frame *frames,
               const std::vector<int64_t> &rows, int64_t width, float *node) {
    double centre[3] = {}, first[3] = {}, second[3] = {}, count = 0, phase = 0, squares = 0;
    for (int64_t i : rows)
        if (mask[i]) {
            count++;
            for (int k = 0; k < 3; k++) centre[k] += coords[12 * i + 3 + k];
        }
    double kept = std::max(count, 1.0);
    for (double &c : centre) c /= kept;
    for (int64_t i : rows)
        if (mask[i]) {
            double angle = (++phase - 0.5) / kept * PI, one = std::cos(angle), two = 2 * one * one - 1;
            for (int k = 0; k < 3; k++) {
                double x = coords[12 * i + 3 + k] - centre[k];
                first[k] += one * x;
                second[k] += two * x;
                squares += x * x;
            }
        }
    P u = unit({(float)first[0], (float)first[1], (float)first[2]}, 1e-6f);
    P s = {(float)second[0], (float)second[1], (float)second[2]};
    P v = unit(s - u * dot(s, u), 1e-6f);
    Frame axes = {u, v, cross(u, v)};
    float size = std::log((float)kept);
    float radius = std::log(std::sqrt(std::max((float)(squares / 100.0 / kept), 1e-4f)));
    P middle = {(float)centre[0], (float)centre[1], (float)centre[2]};
    for (int64_t i : rows) {
        float *out = node + i * width;
        P here = within(axes, atom(coords, i, 1) - middle) * 0.1f;
        out[0] = here.x; out[1] = here.y; out[2] = here.z;
        const P columns[3] = {frames[i].x, frames[i].y, frames[i].z};
        for (int b = 0; b < 3; b++) {
            P turned = within(axes, columns[b]);
            out[3 + b] = turned.x; out[6 + b] = turned.y; out[9 + b] = turned.z;
        }
        out[12] = size; out[13] = radius;
    }
}

// The normal distribution function at x is 0.5 + x P(0.08 x^2 - 1) between -5 and 5: P, highest
// power first, fitted by Chebyshev's polynomials. With it gelu is off by 2e-6 at most.
constexpr float NORMAL[] = {0.000472049636f, -0.001494169f, 0.00205028267f, -0.00296149706f, 0.00612522243f, -0.0109357145f, 0.0165120736f, -0.0233498719f, 0.0314241312f, -0.0404311232f, 0.0515215099f, -0.0702967197f, 0.141363785f};

inline V gelu(V x) {
    V c = larger(smaller(x, fill(5.0f)), fill(-5.0f)), t = c * c * 0.08f - 1.0f;
    V p = fill(NORMAL[0]);
    for (int i = 1; i < (int)(sizeof NORMAL / sizeof NORMAL[0]); i++) p = p * t + NORMAL[i];
    return x * (c * p + 0.5f);
}

}  // namespace

extern "C" {

// Features of structures end to end: node (n, LOCAL + 30 [+ PLACE]), edge (n, k, EDGE), and
// separation, index (n, k) int32; an index of -1 is no neighbour. `node` begins as zeros.
void protok_features(int64_t n, const float *coords, const uint8_t *mask, const int64_t *chain,
                     int64_t structures, const int64_t *sizes, int64_t k, int64_t placed,
                     float *node, float *edges, int32_t *separation, int32_t *index) {
    const int64_t width = LOCAL + RADII * MOMENTS + (placed ? PLACE : 0);
    const float far_away = RADIUS[RADII - 1] * RADIUS[RADII - 1];
    std::vector<Frame> frames(n);
    for (int64_t i = 0; i < n; i++) frames[i] = frame(coords, i);
    std::fill(index, index + n * k, -1);
    std::vector<uint64_t> found;
    std::vector<int> blocks, all;
    std::vector<float> gaps, nothing;
    for (int64_t s = 0, begin = 0; s < structures; begin += sizes[s++]) {
        int64_t end = begin + sizes[s];
        bool before = false;
        for (int64_t i = begin; i < end; i++) {
            P link = i + 1 < end ? atom(coords, i, 2) - atom(coords, i + 1, 0) : P{9, 9, 9};
            bool after = i + 1 < end && mask[i] && mask[i + 1] && chain[i] == chain[i + 1] &&
                         std::sqrt(dot(link, link)) < 2.5f;
            if (mask[i]) local(coords, i, before, after, node + i * width);
            before = after;
        }
        if (placed) {
            std::vector<int64_t> labels(chain + begin, chain + end);
            std::sort(labels.begin(), labels.end());
            labels.erase(std::unique(labels.begin(), labels.end()), labels.end());
            std::vector<std::vector<int64_t>> members(labels.size());
            for (int64_t i = begin; i < end; i++)
                members[std::lower_bound(labels.begin(), labels.end(), chain[i]) - labels.begin()]
                    .push_back(i);
            for (const auto &rows : members)
                placement(coords, mask, frames.data(), rows, width, node + width - PLACE);
        }
        Points points(coords, mask, begin, end);
        int take = (int)std::min<int64_t>(k, (int64_t)points.rows.size() - 1);
        all.resize(points.boxes.size());
        for (size_t b = 0; b < all.size(); b++) all[b] = (int)b;
        std::vector<int> around;
        for (size_t j = 0; j < points.rows.size(); j++) {
            if (j % BLOCK == 0) {
                around.clear();
                for (int b : all)
                    if (gap(points.boxes[j / BLOCK], points.boxes[b]) < far_away) around.push_back(b);
            }
            Box here = points.point(j);
            blocks.clear();
            gaps.clear();
            for (int b : around) {
                float away = gap(here, points.boxes[b]);
                if (away < far_away) { blocks.push_back(b); gaps.push_back(away); }
            }
            int64_t i = points.rows[j];
            density(points, j, frames[i], blocks, gaps, node + i * width + LOCAL);
            if (take < 1) continue;
            if (!nearest(points, j, blocks, gaps, take, far_away, found)) {
                nothing.assign(all.size(), 0.0f);
                nearest(points, j, all, nothing, take, INFINITY, found);
            }
            // Fewer where coordinates are so large that their distances are no numbers.
            for (int e = 0; e < std::min(take, (int)found.size()); e++) {
                int64_t other = points.rows[(uint32_t)found[e]], at = i * k + e;
                index[at] = (int32_t)other;
                int64_t apart = std::min<int64_t>(std::max<int64_t>(other - i, -FAR), FAR) + FAR;
                separation[at] = chain[other] == chain[i] ? (int32_t)apart : 2 * FAR + 1;
                edge(coords, frames.data(), i, other, edges + at * EDGE);
            }
        }
    }
    for (int64_t i = 0; i < n; i++)
        if (!mask[i]) std::fill(node + i * width, node + (i + 1) * width, 0.0f);
}

// Sums over neighbours of gelu(here + there + separation + W edge), (n, hidden): `hidden` a
// multiple of 32; `both` (n, 2 hidden) holds here and there, `weight` is (EDGE, hidden).
void protok_messages(int64_t n, int64_t k, int64_t hidden, const float *both, const float *table,
                     const float *weight, const float *edges, const int32_t *separation,
                     const int32_t *index, float *out) {
    for (int64_t i = 0; i < n; i++)
        for (int64_t column = 0; column < hidden; column += 2 * LANES) {
            const float *own = both + i * 2 * hidden + column;
            V left = load(own), right = load(own + LANES), sums[2] = {};
            for (int64_t e = 0; e < k && index[i * k + e] >= 0; e += TOGETHER) {
                V a[TOGETHER], b[TOGETHER];
                const float *row[TOGETHER];
                int real = 0;
                for (int g = 0; g < TOGETHER; g++) {
                    // Beyond the last neighbour the last is worked on again, and not counted.
                    int64_t at = i * k + e + g;
                    if (e + g < k && index[at] >= 0) real = g + 1;
                    else at = i * k + e + real - 1;
                    const float *there = both + (index[at] * 2 + 1) * hidden + column;
                    const float *apart = table + separation[at] * hidden + column;
                    a[g] = left + load(there) + load(apart);
                    b[g] = right + load(there + LANES) + load(apart + LANES);
                    row[g] = edges + at * EDGE;
                }
                for (int f = 0; f < EDGE; f++) {
                    V u = load(weight + f * hidden + column), v = load(weight + f * hidden + column + LANES);
                    for (int g = 0; g < TOGETHER; g++) {
                        a[g] += row[g][f] * u;
                        b[g] += row[g][f] * v;
                    }
                }
                for (int g = 0; g < real; g++) {
                    sums[0] += gelu(a[g]);
                    sums[1] += gelu(b[g]);
                }
            }
            store(out + i * hidden + column, sums[0]);
            store(out + i * hidden + column + LANES, sums[1]);
        }
}

}  // extern "C"
