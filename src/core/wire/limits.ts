// Bounds on the bytes that agents exchange. The receiver enforces each of them and does not rely on the sender.

/**
 * Bytes of one frame. It has room for a full part of a delta, one record of RECORD_BYTES_MAX beyond that, a head and
 * a chain.
 */
export const FRAME_BYTES_MAX = 256 * 1024

/**
 * Bytes of one encoded value. An EndpointSlice of 1,000 endpoints has about 50 KiB; split-slice.ts spreads larger
 * ones over several records.
 */
export const RECORD_BYTES_MAX = 64 * 1024

/**
 * Characters of a record key. The longest key that an agent writes has 321: "eps/", a namespace label (63), "/" and a
 * DNS subdomain (253).
 */
export const KEY_CHARACTERS_MAX = 512

/**
 * Bytes of an encoded credential: two seats, invite, certificate, admission and the agent's certificate at their bounds.
 * It fits into a frame before authentication (trust/door/frames.ts).
 */
export const CREDENTIAL_BYTES_MAX = 15 * 1024
