// Every limit of the transport with its reason. The agent runs with DEFAULT_LIMITS; tests and benchmarks replace single
// ones.

/** Names that end in `Bytes…` are in bytes, names that end in `Ms` in milliseconds; the others are counts. */
export interface TransportLimits {
  /** Largest frame of an authenticated neighbour. Deltas are cut at 64 KiB; 256 KiB leave room for one large record. */
  readonly frameBytesMax: number
  /** Largest frame before `setAuthenticated`. A Hello with its certificate chain has less than 8 KiB. */
  readonly unauthenticatedFrameBytesMax: number
  /**
   * Bytes queued for one neighbour before its stream is reset. So a slow reader does not grow this agent's memory; it
   * pulls later.
   */
  readonly queueBytesMax: number
  /**
   * Time without any byte taken by a neighbour for which more than one write is queued; then its stream is reset. A machine that is
   * paused comes back sooner, and a slow line takes some bytes each second.
   */
  readonly stalledMs: number
  /**
   * Window of a neighbour's stream: bytes that it may send before they are taken. It is as large as the credit of its
   * answers, because pulls over a long path would otherwise not use its whole bandwidth. The bytes are in memory while
   * the neighbour is paused.
   */
  readonly windowBytesMax: number
  /** Bytes taken from a neighbour between two window updates: half of the window with which yamux begins. */
  readonly windowUpdateBytes: number
  /**
   * Largest frame of yamux, which is in memory until it is complete, also of a stranger. This version puts at most two
   * writes of `corkBytesMax` into one, and the version before put two frames of `frameBytesMax`.
   */
  readonly muxerFrameBytesMax: number
  /**
   * Largest single write. Frames bundled up to 32 KiB gave 300,000 frames/s, and one write for each frame gave 16,000
   * frames/s. A write and its yamux header fit one noise message, which has at most 65,519 bytes of plaintext.
   */
  readonly corkBytesMax: number
  /**
   * Time from the accepted socket until noise has proved the PeerId, two and a half round trips: enough for the longest
   * line on a loaded host.
   */
  readonly silentMs: number
  /** Time from the accepted socket, or from the dial, to `setAuthenticated`. A handshake needs three round trips. */
  readonly authenticationMs: number
  /**
   * Inbound connections that are not authenticated yet, in all. Each may hold about 64 KiB, so they take at most 16
   * MiB.
   */
  readonly unauthenticatedMax: number
  /**
   * The same for each remote IPv4 address and each /64 of IPv6. All agents of a site behind one NAT may return at one
   * time after an outage.
   */
  readonly unauthenticatedPerAddressMax: number
  /** Known members whose connections are not authenticated yet: all neighbours of an agent that returns at one time. */
  readonly arrivingMembersMax: number
  /**
   * All connections. An agent has about 8 neighbours in a mesh of 1,000; in a small full mesh, dials of both sides
   * double them.
   */
  readonly connectionsMax: number
  /**
   * Connections accepted per second from one remote address. With libp2p's default of 5, a site behind one NAT returns
   * slowly.
   */
  readonly inboundPerSecondMax: number
  /**
   * Time for which a second stream of a connected peer is parked; after it, the first stream counts as dead
   * (neighbours.ts).
   */
  readonly duplicateGraceMs: number
  /** The first and the last delay of the redial loop. The delay doubles in between; half of it is random. */
  readonly redialMinMs: number
  readonly redialMaxMs: number
  /** A connection that lived this long resets the delay to `redialMinMs`. */
  readonly redialResetMs: number
  /** Time for one address; then the next one is tried. */
  readonly addressDialMs: number
  /** Time for one attempt over all addresses of a target. */
  readonly dialMs: number
  /** Dials at one time. Each costs about 20 ms of CPU time once it is answered. */
  readonly dialsMax: number
  /** Addresses of one target that are tried. More of them are a misconfiguration, or an attack through a record. */
  readonly addressesPerTargetMax: number
  /** Time in which a stream or a connection closes gracefully; then it is aborted. */
  readonly closeMs: number
}

/** The limits of an agent. */
export const DEFAULT_LIMITS: TransportLimits = {
  frameBytesMax: 256 * 1024,
  unauthenticatedFrameBytesMax: 64 * 1024,
  queueBytesMax: 8 * 1024 * 1024,
  stalledMs: 20_000,
  windowBytesMax: 4 * 1024 * 1024,
  windowUpdateBytes: 128 * 1024,
  muxerFrameBytesMax: 1024 * 1024,
  corkBytesMax: 63 * 1024,
  silentMs: 2000,
  authenticationMs: 10_000,
  unauthenticatedMax: 256,
  unauthenticatedPerAddressMax: 64,
  arrivingMembersMax: 1024,
  connectionsMax: 2_048,
  inboundPerSecondMax: 64,
  duplicateGraceMs: 2_000,
  redialMinMs: 250,
  redialMaxMs: 15_000,
  redialResetMs: 10_000,
  addressDialMs: 4_000,
  dialMs: 15_000,
  dialsMax: 64,
  addressesPerTargetMax: 16,
  closeMs: 600
}
