// Bounds on what a peer can make us hold or do. Each is enforced by the receiver, whatever the sender promised.

/** Bytes of one frame: a part of a delta, with one record of RECORD_BYTES_MAX more than it should have, a head and a chain. */
export const FRAME_BYTES_MAX = 256 * 1024

/** Bytes of one encoded value: a full EndpointSlice of 1,000 dual-stack endpoints has about 50 KiB. */
export const RECORD_BYTES_MAX = 64 * 1024

/** Characters of a key: "eps/" + a namespace label (63) + "/" + a DNS subdomain (253) are 321. */
export const KEY_CHARACTERS_MAX = 512

/** Bytes of an encoded certificate chain: four certificates of some 64 prefixes each. */
export const CHAIN_BYTES_MAX = 16 * 1024

export interface ReplicaLimits {
  /** Records of one origin: 10,000 services with 10 slices each, doubled. */
  readonly keysPerOriginMax: number
  /** Bytes of keys and values of one origin: 200,000 records of some 330 bytes. */
  readonly bytesPerOriginMax: number
  /** Tombstones of one origin: a neighbour that missed more deletions than this takes a whole snapshot instead. */
  readonly tombstonesMax: number
}

export interface ProtocolLimits extends ReplicaLimits {
  /** Agents of one mesh: four times the 1,000 clusters that the mesh is built for. */
  readonly originsMax: number
  /** Bytes of all unfinished deltas together: two origins at their cap. The rest is pulled again later. */
  readonly shadowBytesMax: number
  /** Bytes of operations in one part of a delta: small enough for other frames to pass between two parts. */
  readonly partBytes: number
  /** Pulls under way at a time: enough to hide round trips in a cold join, few enough to bound the shadows. */
  readonly pullsMax: number
  /** Milliseconds without a part of the answer before another neighbour is asked: three of the slowest round trips. */
  readonly pullTimeoutMs: number
  /** Milliseconds that the push of a connected origin may take before its announced head is pulled elsewhere. */
  readonly pushGraceMs: number
  /** Milliseconds between two exchanges of all heads, and between pings. */
  readonly headsIntervalMs: number
  /** Milliseconds without any frame before a connection is given up: ten lost pings. */
  readonly silenceMs: number
}

export const PROTOCOL_LIMITS: ProtocolLimits = {
  keysPerOriginMax: 200_000,
  bytesPerOriginMax: 64 * 1024 * 1024,
  tombstonesMax: 8192,
  originsMax: 4096,
  shadowBytesMax: 128 * 1024 * 1024,
  partBytes: 64 * 1024,
  pullsMax: 32,
  pullTimeoutMs: 3000,
  pushGraceMs: 300,
  headsIntervalMs: 1000,
  silenceMs: 10_000
}
