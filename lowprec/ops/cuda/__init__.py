"""The operators on CUDA devices: kernels put on torch's current stream, in memory of torch's allocator.

Nothing waits for the device, but for errors that only data can show: of NaN where codes have none, of codes
that stand for nothing, of scales that are given. Nothing is copied to it but the table of a format that lists
its values, once. So what was run once before can be captured in a CUDA graph, and a replay reads the seed
anew. This is imported when a tensor on such a device arrives: it needs the extra ``cuda``.
"""
