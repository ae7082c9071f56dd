// The limits of replication with their reasons. They bound the memory and the work that a neighbour can cause here. The
// receiver enforces each of them and does not rely on the sender. The agent runs with PROTOCOL_LIMITS; tests replace
// single ones.

import { FULL_MESH_MAX } from './push/overlay.ts'

/** The limits of one origin's state (P5 of replica.ts). A state that exceeds them is refused. */
export interface ReplicaLimits {
  /** Records of one origin: 100,000 services with an endpoint slice each. */
  readonly keysPerOriginMax: number
  /** Bytes in memory of one origin's records (recordBytes): 200,000 records with 230 bytes of key and value each. */
  readonly bytesPerOriginMax: number
  /**
   * Tombstones that are kept of one origin. A neighbour that has missed more deletions pulls a whole snapshot instead.
   */
  readonly tombstonesMax: number
}

/** The limits of the states of one cluster, and of all other clusters together (room-budget.ts). */
export interface RoomLimits {
  /** Records of all origins of one cluster: those of its speaker, and of its agents themselves. */
  readonly keysPerClusterMax: number
  /** Bytes in memory of one cluster's records: one origin of the largest size, and room for its other agents. */
  readonly bytesPerClusterMax: number
  /** Agents of one cluster that have records: one on each node of a large cluster. */
  readonly originsPerClusterMax: number
  /**
   * Bytes in memory of all records: 1,000,000 endpoints in slices of ten, with their 100,000 services, and a third as
   * much again.
   */
  readonly bytesMax: number
}

/** Names with `Bytes` are in bytes, names that end in `Ms` in milliseconds; the others are counts. */
export interface ProtocolLimits extends ReplicaLimits, RoomLimits {
  /**
   * Own batches that may leave at once, and per second after that. Further changes wait; of each key the last one is
   * kept.
   */
  readonly batchesBurst: number
  readonly batchesPerSecond: number
  /** Agents of one mesh: four times the 1,000 clusters that the mesh is built for. */
  readonly originsMax: number
  /**
   * Unfinished deltas of all neighbours together, in memory: one origin of the largest size. More is refused and pulled
   * again later.
   */
  readonly stagingBytesMax: number
  /**
   * Unfinished deltas of one neighbour: one origin of the largest size, so that some room is always left for the
   * others.
   */
  readonly stagingBytesPerPeerMax: number
  /** Operations in one part of a delta: small enough for other frames to pass between two parts. */
  readonly partBytes: number
  /**
   * Answers of one neighbour that are on their way: three times what a path of 100 Mbit/s and 100 ms holds, since a
   * quarter waits for credit and routers buffer as much again. It is half of the neighbour's send queue. One part for
   * each answer may come on top.
   */
  readonly windowsBytesMax: number
  /**
   * Answers that wait to be sent to one neighbour: enough to keep its connection busy while the next parts are made.
   */
  readonly unsentBytesMax: number
  /**
   * The same for all neighbours together, but one part each is always allowed. After an outage, many neighbours pull at
   * one time.
   */
  readonly allUnsentBytesMax: number
  /**
   * Pulls under way at a time: enough to hide the round trips of a first join, few enough to bound the unfinished
   * deltas.
   */
  readonly pullsMax: number
  /** Time without a part of an answer after which another neighbour is asked: three of the slowest round trips. */
  readonly pullTimeoutMs: number
  /** Time that the push of a connected origin may take before its announced head is pulled from another neighbour. */
  readonly pushGraceMs: number
  /** Time between two pings to a neighbour, which carry the digest of all heads. */
  readonly headsIntervalMs: number
  /** Time between two tellings of changed heads to neighbours to which their batches are not pushed. */
  readonly tellIntervalMs: number
  /**
   * Agents up to which each pushes its own batches directly to all; in a larger mesh, a tree for each origin relays
   * them.
   */
  readonly directMax: number
  /** Silence after which a neighbour is suspected: three lost pings and their round trip. */
  readonly suspectMs: number
  /** Silence after which a connection is aborted: ten lost pings. */
  readonly silenceMs: number
}

/** The limits of an agent. */
export const PROTOCOL_LIMITS: ProtocolLimits = {
  keysPerOriginMax: 200_000,
  bytesPerOriginMax: 136 * 1024 * 1024,
  tombstonesMax: 8192,
  keysPerClusterMax: 204_000,
  bytesPerClusterMax: 144 * 1024 * 1024,
  originsPerClusterMax: 2000,
  bytesMax: 192 * 1024 * 1024,
  batchesBurst: 40,
  batchesPerSecond: 20,
  originsMax: 4096,
  stagingBytesMax: 168 * 1024 * 1024,
  stagingBytesPerPeerMax: 144 * 1024 * 1024,
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
