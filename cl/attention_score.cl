/*
 * A score modifier by itself: all scores of one query, a work-item each. For references.
 */
__kernel void attention_score(__global float *scores, int batch, int head, int query, int heads,
                              int seq_q, int seq_k, __global const float *data, ulong offset)
{
    const int key = get_global_id(0);
    scores[key] =
        modify_score(scores[key], batch, head, query, key, heads, seq_q, seq_k, data + offset);
}
