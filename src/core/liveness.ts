// Is a tunnel alive, and may a cluster be withdrawn? Durations in, state out.
// Invariant (fail static): gossip silence alone withdraws nothing; a dead tunnel alone withdraws nothing. Only both, for
// every gateway of a cluster, do.
//
//   first seen      handshake                      last probe reply      + PROBE_SILENCE_MS_MAX
//   ├── connecting ─┼───────────── up ─────────────┼──────── up ─────────┼── down ──→
//   ├── connecting ─────────── CONNECT_MS_MAX ─┼── down ──→   (no handshake ever)
//
// A probe is answered by the peer's agent, the tunnel by its kernel: where the agent has died, the probe's packets still bring
// something back (a refusal by ICMP, or WireGuard's own keepalive), so that bytes received prove the tunnel as well.
//
// Source: the states of Talos' KubeSpan peers; WireGuard's timers (whitepaper, section 6.1).

export interface TunnelFacts {
  /** Unix milliseconds, as lastHandshakeMs is. */
  readonly nowMs: number
  readonly firstSeenMs: number
  /** undefined: never. */
  readonly lastHandshakeMs: number | undefined
  /** Of the UDP echo inside the tunnel; undefined: never, or the peer answers no probes. */
  readonly lastProbeReplyMs: number | undefined
  /** When the bytes received from this peer were last seen to grow; undefined: not yet, or nobody looks. */
  readonly lastReceivedMs?: number | undefined
  /** 0: none, so that an idle tunnel has no handshakes. */
  readonly keepaliveSeconds: number
}

export type TunnelState =
  { readonly state: 'up' } | { readonly state: 'connecting' | 'down'; readonly reason: string }

/** WireGuard refuses a session key after 180 s (REJECT_AFTER_TIME) and renews it at 120 s while there is traffic. */
export const HANDSHAKE_AGE_MS_MAX = 180_000
/** Three handshake attempts, 5 s apart (REKEY_TIMEOUT). */
export const CONNECT_MS_MAX = 15_000
/** Five probes of one second. */
export const PROBE_SILENCE_MS_MAX = 5_000
/** A peer that has received answers within 10 s (KEEPALIVE_TIMEOUT); 5 s more and WireGuard itself gives the session up. */
export const RECEIVE_SILENCE_MS_MAX = 15_000
/** Several heartbeats and a reconnect; only ever counts together with a dead tunnel. */
export const GOSSIP_SILENCE_MS_MAX = 10_000

export function tunnelState(facts: TunnelFacts): TunnelState {
  const { lastHandshakeMs, lastProbeReplyMs } = facts
  const probeAgeMs = ageMs(facts.nowMs, lastProbeReplyMs)
  if (probeAgeMs <= PROBE_SILENCE_MS_MAX) return { state: 'up' }
  if (lastProbeReplyMs !== undefined) {
    if (ageMs(facts.nowMs, facts.lastReceivedMs) <= RECEIVE_SILENCE_MS_MAX) return { state: 'up' }
    return { state: 'down', reason: `no answer through the tunnel for ${seconds(probeAgeMs)}` }
  }
  if (lastHandshakeMs === undefined) return neverConnected(facts)
  const handshakeAgeMs = ageMs(facts.nowMs, lastHandshakeMs)
  if (handshakeAgeMs <= HANDSHAKE_AGE_MS_MAX + facts.keepaliveSeconds * 1000) return { state: 'up' }
  const reason = `last handshake ${seconds(handshakeAgeMs)} ago`
  // Without keepalives an old handshake tells nothing: there may have been nothing to send.
  return facts.keepaliveSeconds > 0
    ? { state: 'down', reason }
    : { state: 'connecting', reason: `idle, ${reason}` }
}

export interface GatewayFacts {
  readonly tunnel: TunnelState['state']
  /** Since anything new was heard of this agent, by any way. */
  readonly gossipSilentMs: number
}

/** For all gateways of a cluster. One without any gateway cannot be reached either. */
export function withdrawn(gateways: readonly GatewayFacts[]): boolean {
  return gateways.every(
    ({ tunnel, gossipSilentMs }) => tunnel === 'down' && gossipSilentMs > GOSSIP_SILENCE_MS_MAX
  )
}

function neverConnected({ nowMs, firstSeenMs }: TunnelFacts): TunnelState {
  const waitedMs = ageMs(nowMs, firstSeenMs)
  return waitedMs <= CONNECT_MS_MAX
    ? { state: 'connecting', reason: 'waiting for the first handshake' }
    : { state: 'down', reason: `no handshake in ${seconds(waitedMs)}: is its UDP port reachable?` }
}

/** Infinity for never. A clock that was set back makes a moment of the future: that is now. */
function ageMs(nowMs: number, thenMs: number | undefined): number {
  return thenMs === undefined ? Infinity : Math.max(0, nowMs - thenMs)
}

function seconds(ms: number): string {
  return `${Math.round(ms / 1000)} s`
}
