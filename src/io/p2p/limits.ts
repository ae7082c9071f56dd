// Every bound of the transport, with its reason. Composed once; tests shrink them.

export interface TransportLimits {
  /** Largest frame of an authenticated neighbour, bytes. Deltas are cut at 64 KiB; 256 leaves room for one outsized record. */
  readonly frameBytesMax: number
  /** Largest frame before `setAuthenticated`, bytes: a Hello with its chain is under 8 KiB. */
  readonly unauthenticatedFrameBytesMax: number
  /** Bytes queued for one neighbour before it is reset: a slow reader pulls later, it never grows our memory. */
  readonly queueBytesMax: number
  /**
   * Bytes that a neighbour may have on their way to us, in libp2p's stream: as much as its answers may have, or the pulls would
   * not fill a long line. They sit in memory while the neighbour is paused.
   */
  readonly windowBytesMax: number
  /** Bytes taken from a neighbour before it is told that it may send as many more: half of yamux's first window. */
  readonly windowUpdateBytes: number
  /**
   * Largest frame of the muxer, bytes: it sits in memory until it is whole, of strangers, too. We write at most two corks in one;
   * the version before wrote two frames.
   */
  readonly muxerFrameBytesMax: number
  /**
   * Largest single write, bytes. Measured: bundling frames up to 32 KiB gave 300k frames/s where one write each gave 16k. With
   * yamux's header it is one message of noise, which has 65,519 bytes at most.
   */
  readonly corkBytesMax: number
  /** From accept (or dial) to `setAuthenticated`, ms. A handshake needs three round trips. */
  readonly authenticationMs: number
  /** Inbound connections that are not authenticated yet, in all. Each may hold ~64 KiB and a socket: ≤ 16 MiB. */
  readonly unauthenticatedMax: number
  /** The same per remote address: one NAT may hide a site's agents, all of which return after an outage. */
  readonly unauthenticatedPerAddressMax: number
  /** All connections. A mesh of 1,000 agents at ~8 neighbours needs few; a small full mesh may double during dials. */
  readonly connectionsMax: number
  /** Accepted per second and remote address. libp2p's 5 would lock out a site behind one NAT after an outage. */
  readonly inboundPerSecondMax: number
  /** How long a second stream of a connected peer may wait before it is taken as proof that the first one is dead, ms. */
  readonly duplicateGraceMs: number
  /** Redial: the first delay and the last, ms; doubled in between, jittered by half. */
  readonly redialMinMs: number
  readonly redialMaxMs: number
  /** A connection that lived this long resets the backoff, ms. */
  readonly redialResetMs: number
  /** One address, ms; the next one is tried then. */
  readonly addressDialMs: number
  /** One attempt over all addresses of a target, ms. */
  readonly dialMs: number
  /** Dials at once: each costs ~20 ms of CPU here once it is answered. */
  readonly dialsMax: number
  /** Addresses tried of one target: more is a misconfiguration or an attack through a record. */
  readonly addressesPerTargetMax: number
  /** stop() and graceful closes end within this, ms. */
  readonly closeMs: number
}

export const DEFAULT_LIMITS: TransportLimits = {
  frameBytesMax: 256 * 1024,
  unauthenticatedFrameBytesMax: 64 * 1024,
  queueBytesMax: 8 * 1024 * 1024,
  windowBytesMax: 4 * 1024 * 1024,
  windowUpdateBytes: 128 * 1024,
  muxerFrameBytesMax: 1024 * 1024,
  corkBytesMax: 63 * 1024,
  authenticationMs: 10_000,
  unauthenticatedMax: 256,
  unauthenticatedPerAddressMax: 64,
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
