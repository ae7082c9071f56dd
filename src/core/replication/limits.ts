// Bounds on what a peer can make us hold or do. Each is enforced by the receiver, whatever the sender promised.

import { FULL_MESH_MAX } from './push/overlay.ts'

export interface ReplicaLimits {
  /** Records of one origin: 10,000 services with 10 slices each, doubled. */
  readonly keysPerOriginMax: number
  /** Bytes of keys and values of one origin: 200,000 records of some 330 bytes. */
  readonly bytesPerOriginMax: number
  /** Tombstones of one origin: a neighbour that missed more deletions than this takes a whole snapshot instead. */
  readonly tombstonesMax: number
}

export interface ProtocolLimits extends ReplicaLimits {
  /** Own batches at once, and a second after that. Above it, changes of one key are conflated and leave with a later tick. */
  readonly batchesBurst: number
  readonly batchesPerSecond: number
  /** Agents of one mesh: four times the 1,000 clusters that the mesh is built for. */
  readonly originsMax: number
  /** Bytes of all unfinished deltas together: two origins at their cap. The rest is pulled again later. */
  readonly stagingBytesMax: number
  /** Of these, from one neighbour: one origin at its cap, and half as much in changes; the others always have the rest. */
  readonly stagingBytesPerPeerMax: number
  /** Bytes of operations in one part of a delta: small enough for other frames to pass between two parts. */
  readonly partBytes: number
  /**
   * Bytes that the answers of one neighbour may have on their way: three times what a path of 100 Mbit/s and 100 ms holds,
   * since a quarter waits for credit and routers buffer as much again; half of the neighbour's send queue. A part for each
   * answer comes on top.
   */
  readonly windowsBytesMax: number
  /** Bytes of answers that wait to be sent to one neighbour: what its line takes while more is made. */
  readonly unsentBytesMax: number
  /** The same of all neighbours together; each has room for a part, though. A mesh that comes back asks all at once. */
  readonly allUnsentBytesMax: number
  /** Pulls under way at a time: enough to hide round trips in a cold join, few enough to bound the staged deltas. */
  readonly pullsMax: number
  /** Milliseconds without a part of the answer before another neighbour is asked: three of the slowest round trips. */
  readonly pullTimeoutMs: number
  /** Milliseconds that the push of a connected origin may take before its announced head is pulled elsewhere. */
  readonly pushGraceMs: number
  /** Milliseconds between pings, which carry a digest of all heads. */
  readonly headsIntervalMs: number
  /** Milliseconds between two tellings of changed heads to neighbours that are not pushed to. */
  readonly tellIntervalMs: number
  /** Up to so many agents own batches go straight to everyone; above, relays push them on along a tree per origin. */
  readonly directMax: number
  /** Milliseconds without any frame before a neighbour is suspected: three lost pings and their round trip. */
  readonly suspectMs: number
  /** Milliseconds without any frame before a connection is given up: ten lost pings. */
  readonly silenceMs: number
}

export const PROTOCOL_LIMITS: ProtocolLimits = {
  keysPerOriginMax: 200_000,
  bytesPerOriginMax: 64 * 1024 * 1024,
  tombstonesMax: 8192,
  batchesBurst: 40,
  batchesPerSecond: 20,
  originsMax: 4096,
  stagingBytesMax: 128 * 1024 * 1024,
  stagingBytesPerPeerMax: 96 * 1024 * 1024,
  partBytes: 64 * 1024,
  windowsBytesMax: 4 * 1024 * 1024,
  unsentBytesMax: 256 * 1024,
  allUnsentBytesMax: 32 * 1024 * 1024,
  pullsMax: 32,
  pullTimeoutMs: 3000,
  pushGraceMs: 300,
  headsIntervalMs: 1000,
  tellIntervalMs: 200,
  directMax: FULL_MESH_MAX,
  suspectMs: 3500,
  silenceMs: 10_000
}
