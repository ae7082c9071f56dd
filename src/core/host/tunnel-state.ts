// This file judges the state of one tunnel, as a pure function of facts with times. Names, the DNS feed, routes and
// load balancers all follow this one judgement (docs/decisions/0039).
// Invariants
//   1. `up` means that a probe of this agent was answered lately, by the peer's agent or, where no agent runs, by the
//      kernel behind the tunnel. Received bytes alone prove nothing, because only that direction may work.
//   2. Before the first answer a tunnel is `connecting`, and `down` once it has had time to connect. While WireGuard
//      had a handshake lately and bytes arrive, it stays `connecting`: the path drops probes, but perhaps nothing else.
//   3. A tunnel is down only after lost probes, not after silence alone: an agent that did not run for a minute sent no
//      probes and has lost none.
//   4. A peer that answers no probes (probe-port 0, or an address that two members share) is judged by its handshakes
//      alone. They prove both directions, but take minutes to grow old.
//   5. A cluster is down when the tunnels to all its gateways are down. Replication has no influence on it (fail
//      static).
//   6. A silent gateway is still `up`, but another gateway of its cluster is preferred, because a moved prefix costs little
//      and a second without an answer costs traffic. Silence ends RETURN_MS after the answers are back, so that a lossy
//      path moves prefixes once in that time at most. An agent that is stopped or busy is not silent while the kernel of
//      its host refuses probes: the kernel carries the traffic.
//
//   first seen       first answer                 last answer        + PROBE_SILENCE_MS_MAX and PROBES_LOST_MIN
//   ├── connecting ──┼──────────── up ────────────┼──────── up ──────┼── down ──→
//   ├── connecting ──────────── CONNECT_MS_MAX ─┼── down ──→
//
// Source: the states of Talos' KubeSpan peers; WireGuard's timers (whitepaper, section 6.1).

/** Facts about the tunnel to one gateway, from which its state is judged. */
export interface TunnelFacts {
  /** All times are on one monotonic clock. */
  readonly nowMs: number
  readonly firstSeenMs: number
  /** False when this peer answers no probes, or when its answers cannot be told from those of another peer. */
  readonly isProbed: boolean
  /** Time of the latest reply of the agent at the other end; undefined when there was none. */
  readonly lastReplyMs: number | undefined
  /**
   * Time when the kernel at the other end last refused a probe, as no agent listens there; undefined when it never did.
   */
  readonly lastRefusalMs: number | undefined
  /** Number of probes sent since the latest reply or refusal. */
  readonly unanswered: number
  readonly lastHandshakeMs: number | undefined
  /** Time when the bytes received from this peer were last seen to grow. */
  readonly lastReceivedMs: number | undefined
  /** Interval of keepalives in seconds. With 0 an idle tunnel has no handshakes. */
  readonly keepaliveSeconds: number
}

/** State of a tunnel, with a reason for operators. */
export type TunnelState =
  | { readonly state: 'up'; readonly reason?: string }
  | { readonly state: 'connecting' | 'down'; readonly reason: string }

/** WireGuard refuses a session key after 180 s (REJECT_AFTER_TIME) and renews it at 120 s while there is traffic. */
export const HANDSHAKE_AGE_MS_MAX = 180_000
/** Time in which a new tunnel must connect: three handshake attempts, 5 s apart (REKEY_TIMEOUT). */
export const CONNECT_MS_MAX = 15_000
/**
 * Silence after which a tunnel may be down. Probes are sent every second, and an unanswered probe is followed by more
 * at once, so at least five are lost by then.
 */
const PROBE_SILENCE_MS_MAX = 5_000
const PROBES_LOST_MIN = 5
/**
 * Silence after which another gateway of the same cluster is preferred. Probes to such gateways are sent every 200 ms, so
 * three are lost by then and a fourth is on its way. A refusal counts longer: a kernel sends one a second (icmp(7),
 * icmp_ratelimit).
 */
const QUIET_MS_MAX = 700
const QUIET_REFUSAL_MS_MAX = 2_500
const QUIET_PROBES = 4
/** Time for which a gateway that answers again still counts as silent. */
const RETURN_MS = 3_000
/**
 * Silence after which no bytes count as received. The peer's own probes come every second, and keepalives every 25 s.
 */
const RECEIVE_SILENCE_MS_MAX = 30_000

/** Judges the state of one tunnel from its probes, or from its handshakes when the peer is not probed. */
export function tunnelState(facts: TunnelFacts): TunnelState {
  if (!facts.isProbed) return byHandshake(facts)
  const replyAgeMs = ageMs(facts.nowMs, facts.lastReplyMs)
  const refusalAgeMs = ageMs(facts.nowMs, facts.lastRefusalMs)
  const answerAgeMs = Math.min(replyAgeMs, refusalAgeMs)
  if (answerAgeMs === Infinity) return neverAnswered(facts)
  if (answerAgeMs > PROBE_SILENCE_MS_MAX && facts.unanswered >= PROBES_LOST_MIN)
    return { state: 'down', reason: `no answer through the tunnel for ${seconds(answerAgeMs)}` }
  return refusalAgeMs < replyAgeMs
    ? { state: 'up', reason: 'the host behind the tunnel answers, but its agent does not' }
    : { state: 'up' }
}

/** What the choice among the gateways of a cluster depends on. */
export type GatewayHealth = TunnelState['state'] | 'silent'

/** Returns the time of the latest silence of a gateway that is up; undefined: it was not silent yet. */
export function silence(facts: TunnelFacts, beforeMs: number | undefined): number | undefined {
  const { nowMs, isProbed, unanswered, lastReplyMs, lastRefusalMs } = facts
  if (!isProbed || lastReplyMs === undefined) return beforeMs
  // A refusal before the latest reply is of an agent that had not started yet.
  const isRefusing =
    lastRefusalMs !== undefined &&
    lastRefusalMs > lastReplyMs &&
    ageMs(nowMs, lastRefusalMs) <= QUIET_REFUSAL_MS_MAX
  const isQuiet = unanswered >= QUIET_PROBES && ageMs(nowMs, lastReplyMs) > QUIET_MS_MAX && !isRefusing
  return isQuiet ? nowMs : beforeMs
}

/** Returns whether a gateway counts as silent. `silentMs`: what `silence` returned last. */
export function isSilent(nowMs: number, silentMs: number | undefined): boolean {
  return ageMs(nowMs, silentMs) < RETURN_MS
}

/** Returns whether a cluster is down: it has gateways, and the tunnels of all of them are down. */
export function isDown(gateways: readonly TunnelState['state'][]): boolean {
  return gateways.length > 0 && gateways.every((state) => state === 'down')
}

/** Judges a tunnel through which no probe was answered yet (invariant 2). */
function neverAnswered(facts: TunnelFacts): TunnelState {
  const waitedMs = ageMs(facts.nowMs, facts.firstSeenMs)
  if (waitedMs <= CONNECT_MS_MAX)
    return { state: 'connecting', reason: 'waiting for the first answer through the tunnel' }
  const isReceiving = ageMs(facts.nowMs, facts.lastReceivedMs) <= RECEIVE_SILENCE_MS_MAX
  if (hasHandshake(facts) && isReceiving)
    return { state: 'connecting', reason: 'WireGuard has a handshake, but no probe is answered' }
  if (facts.lastHandshakeMs === undefined)
    return { state: 'down', reason: `no WireGuard handshake in ${seconds(waitedMs)}` }
  return { state: 'down', reason: `no answer through the tunnel in ${seconds(waitedMs)}` }
}

/** Judges the tunnel to a peer that answers no probes (invariant 4). */
function byHandshake(facts: TunnelFacts): TunnelState {
  if (hasHandshake(facts))
    return { state: 'up', reason: 'the peer answers no probes, so only its last handshake counts' }
  if (facts.lastHandshakeMs === undefined) {
    const waitedMs = ageMs(facts.nowMs, facts.firstSeenMs)
    return waitedMs <= CONNECT_MS_MAX
      ? { state: 'connecting', reason: 'waiting for the first handshake' }
      : { state: 'down', reason: `no WireGuard handshake in ${seconds(waitedMs)}` }
  }
  const reason = `last handshake ${seconds(ageMs(facts.nowMs, facts.lastHandshakeMs))} ago`
  // Without keepalives an old handshake proves nothing: there may have been nothing to send.
  return facts.keepaliveSeconds > 0
    ? { state: 'down', reason }
    : { state: 'connecting', reason: `idle, ${reason}` }
}

/**
 * Returns whether the last handshake is recent. The interval of keepalives is added, because on an idle tunnel only the
 * next keepalive starts a new handshake.
 */
function hasHandshake({ nowMs, lastHandshakeMs, keepaliveSeconds }: TunnelFacts): boolean {
  return ageMs(nowMs, lastHandshakeMs) <= HANDSHAKE_AGE_MS_MAX + keepaliveSeconds * 1000
}

/** Returns the age in milliseconds; Infinity when the event never happened. */
function ageMs(nowMs: number, thenMs: number | undefined): number {
  return thenMs === undefined ? Infinity : Math.max(0, nowMs - thenMs)
}

function seconds(ms: number): string {
  return `${Math.round(ms / 1000)} s`
}
