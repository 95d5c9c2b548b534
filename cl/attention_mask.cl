/*
 * A mask's predicate by itself: what one query sees, a work-item for each key. For references.
 */
__kernel void attention_mask(__global uchar *seen, __global const uint *words, int batch, int head,
                             int query, int heads, __global const uint *data, ulong offset)
{
    const int key = get_global_id(0);
    seen[key] = MASK_VISIBLE(words, data + offset, batch, head, heads, query, key) != 0;
}
