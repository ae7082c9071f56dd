// Bounds on the bytes that agents exchange. The receiver enforces each, whatever the sender promised.

/** Bytes of one frame: a part of a delta, with one record of RECORD_BYTES_MAX more than it should have, a head and a chain. */
export const FRAME_BYTES_MAX = 256 * 1024

/** Bytes of one encoded value: an EndpointSlice of 1,000 endpoints has about 50 KiB. Larger ones are split over records. */
export const RECORD_BYTES_MAX = 64 * 1024

/** Characters of a key: "eps/" + a namespace label (63) + "/" + a DNS subdomain (253) are 321. */
export const KEY_CHARACTERS_MAX = 512

/** Bytes of an encoded certificate chain: three certificates at their bounds, and half of a frame before authentication (handshake.ts). */
export const CHAIN_BYTES_MAX = 8192
