// The handshake of two agents on a new connection. Sans-I/O: frames in, frames out.
//
//   both  → Hello {versions, mesh, chain, nonce, clock}
//   both  → Proof, when the peer's Hello is valid            or Reject {code, text}, and the connection ends
//   both  : the peer is accepted when its Proof is valid
//
// Invariants
//   1. Before mutual authentication only Hello, Proof and Reject are sent and accepted.
//   2. The agent of the chain is the PeerId that the connection (Noise) authenticated, and its key signs both nonces
//      and both PeerIds: a proof cannot be replayed on another connection, relayed to a third agent or reflected.
//   3. Cheap checks come before signatures, and a frame before authentication has at most DOOR_FRAME_BYTES_MAX bytes.
import type { Crypto } from '../model/crypto.ts'
import type { Origin } from '../model/values.ts'
import { meshIdText } from '../model/identity.ts'
import { type FrameMessage, type HelloMessage, decodeFrame, encodeFrame, wire } from '../wire/messages.ts'
import type { TrustStore } from './trust-store.ts'
import { equalBytes, utf8 } from '../model/bytes.ts'
import {
  type AgentChain,
  CLOCK_SKEW_SECONDS,
  checkTime,
  durationText,
  timeText,
  verifyChain
} from './chain.ts'

/** Why a handshake was refused; the wire form is RejectCode in mesh.proto. */
export type HandshakeCode =
  /** The two agents have no protocol version in common. */
  | 'version'
  /** The peer is in another mesh. */
  | 'mesh'
  /** The chain does not verify or is of another PeerId. */
  | 'certificate'
  /** A certificate has expired, or is not valid yet, and the clocks agree. */
  | 'expired'
  /**
   * A certificate has expired, or is not valid yet, and the clocks of the two agents differ by more than
   * CLOCK_SKEW_SECONDS.
   */
  | 'clock'
  /** An older certificate holds the cluster's name. */
  | 'nameTaken'
  /** A new cluster has a prefix that overlaps one of an older certificate. */
  | 'prefixOverlap'
  /** The signature over the nonces is not valid. */
  | 'proof'
  /** The peer refuses for the moment. This version never sends the code. */
  | 'busy'
  /** The trust store denies the chain. */
  | 'revoked'
  /** The peer has this agent's own PeerId: it runs on a copy of this agent's state. */
  | 'ownIdentity'
  /** The message is not the expected one, or not decodable. */
  | 'protocol'
  /** The peer sent no code, or one that this version does not know. */
  | 'unspecified'

/** The result of a handshake: the verified chain of the peer, or the reason for the refusal. */
export type HandshakeOutcome =
  | {
      readonly kind: 'accepted'
      readonly chain: AgentChain
      readonly version: number
      /** The name and version of the peer's program, as it says; safe to print. */
      readonly software: string
    }
  | {
      readonly kind: 'refused'
      readonly code: HandshakeCode
      /** A text for the operator, safe to print (`printable`). */
      readonly detail: string
      /** True when the peer refused this agent; false when this agent refused the peer. */
      readonly byPeer: boolean
    }

/** The answer to one frame. */
export interface HandshakeStep {
  /** Encoded frames, to be sent in order. After a refusal they are sent before the connection is closed. */
  readonly send: readonly Uint8Array[]
  /**
   * Set once, at the end. After `accepted`, the caller must call `trustStore.add(outcome.chain)` before it calls
   * `Protocol.peerUp`.
   */
  readonly outcome?: HandshakeOutcome
}

/** One side of one handshake. The caller bounds its duration. */
export interface Handshake {
  /** The frames to send when the connection is open. */
  start(): readonly Uint8Array[]
  /** Takes one frame without its length prefix. Never throws. After the end it returns no frames. */
  receive(frame: Uint8Array, nowMs: number): HandshakeStep
}

interface HandshakeOptions {
  readonly crypto: Crypto
  readonly self: {
    readonly origin: Origin
    /** The Ed25519 seed of the node key, 32 bytes. */
    readonly seed: Uint8Array
    readonly meshId: Uint8Array
    /** The encoded Chain that ends in this agent's certificate. */
    readonly chain: Uint8Array
    readonly software: string
  }
  /** The PeerId that the connection (Noise) has authenticated. */
  readonly remote: Origin
  readonly trustStore: TrustStore
  /**
   * True when this agent dialled. Then it chose the PeerId itself (from a token, the settings or the mesh), and the
   * expiry of the peer's invite is not checked: a new agent knows no cluster yet, and the members that it dials were
   * invited long ago.
   */
  readonly initiator: boolean
  /** The time in Unix milliseconds, which the Hello carries. */
  readonly nowMs: number
}

const PROTOCOL_VERSION = 1
/** Bytes of a frame before authentication: twice CHAIN_BYTES_MAX. */
export const DOOR_FRAME_BYTES_MAX = 16 * 1024
/** Bytes (UTF-8) of the text of a Reject. */
export const REJECT_DETAIL_BYTES_MAX = 300

/** Creates this agent's side of one handshake. */
export function createHandshake(options: HandshakeOptions): Handshake {
  const { crypto, self, remote } = options
  const nonce = crypto.random(NONCE_BYTES)
  /** The message that is due from the peer; `nothing` after the end. */
  let state:
    | { readonly due: 'hello' }
    | { readonly due: 'proof'; readonly hello: HelloMessage; readonly chain: AgentChain }
    | { readonly due: 'nothing' } = { due: 'hello' }

  return {
    start: () => [
      encodeFrame({
        hello: {
          versionMin: PROTOCOL_VERSION,
          versionMax: PROTOCOL_VERSION,
          meshId: self.meshId,
          chain: self.chain,
          nonce,
          unixSeconds: Math.floor(options.nowMs / 1000),
          software: self.software
        }
      })
    ],
    receive(frame, nowMs) {
      if (state.due === 'nothing') return { send: [] }
      if (frame.length > DOOR_FRAME_BYTES_MAX) {
        return refuse('protocol', `the peer sent a frame of ${frame.length} bytes before authentication`)
      }
      const message = decodeFrame(frame)
      if (message === undefined) return refuse('protocol', 'the peer sent a frame that cannot be decoded')
      if (message.reject !== null) return onReject(message.reject)
      if (state.due === 'hello' && message.hello !== null) {
        return onHello(message.hello, Math.floor(nowMs / 1000))
      }
      if (state.due === 'proof' && message.proof !== null) return onProof(state, message.proof.signature)
      return refuse(
        'protocol',
        `the peer sent another message than ${state.due === 'hello' ? 'Hello' : 'Proof'}`
      )
    }
  }

  /** Judges the peer's Hello and answers it with this agent's proof. */
  function onHello(hello: HelloMessage, nowSeconds: number): HandshakeStep {
    const verdict = judgeHello(options, hello, nowSeconds)
    if (verdict.kind === 'refused') return refuse(verdict.code, verdict.detail)
    state = { due: 'proof', hello, chain: verdict.chain }
    const from = {
      meshId: self.meshId,
      prover: self.origin,
      verifier: remote,
      proverNonce: nonce,
      verifierNonce: hello.nonce
    }
    return { send: [encodeFrame({ proof: { signature: crypto.sign(self.seed, ...proofParts(from)) } })] }
  }

  function onProof(
    held: { readonly hello: HelloMessage; readonly chain: AgentChain },
    signature: Uint8Array
  ): HandshakeStep {
    const { hello, chain } = held
    const by = {
      meshId: self.meshId,
      prover: remote,
      verifier: self.origin,
      proverNonce: hello.nonce,
      verifierNonce: nonce
    }
    if (!crypto.verify(chain.agentKey, signature, ...proofParts(by))) {
      return refuse('proof', 'the signature of the proof does not match the key of the certificate')
    }
    state = { due: 'nothing' }
    const software = printable(hello.software)
    return { send: [], outcome: { kind: 'accepted', chain, version: PROTOCOL_VERSION, software } }
  }

  function onReject(reject: RejectMessage): HandshakeStep {
    state = { due: 'nothing' }
    const code = CODE_OF_NUMBER.get(reject.code) ?? 'unspecified'
    return { send: [], outcome: { kind: 'refused', code, detail: printable(reject.detail), byPeer: true } }
  }

  /** Ends the handshake and tells the peer why, so that both operators see the same reason. */
  function refuse(code: HandshakeCode, text: string): HandshakeStep {
    state = { due: 'nothing' }
    const detail = printable(text)
    const reject = encodeFrame({ reject: { code: NUMBER_OF_CODE[code], detail } })
    return { send: [reject], outcome: { kind: 'refused', code, detail, byPeer: false } }
  }
}

/**
 * Makes a peer's text safe to print: removes control and direction characters and cuts it to REJECT_DETAIL_BYTES_MAX
 * bytes of UTF-8.
 */
export function printable(text: string): string {
  const clean = text.slice(0, REJECT_DETAIL_BYTES_MAX).replaceAll(/[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu, '')
  let [bytes, end] = [0, 0]
  for (const character of clean) {
    bytes += utf8(character).length
    if (bytes > REJECT_DETAIL_BYTES_MAX) break
    end += character.length
  }
  return clean.slice(0, end)
}

type RejectMessage = NonNullable<FrameMessage['reject']>

const NONCE_BYTES = 32
const PROOF_DOMAIN = utf8('rhizome/proof/1\0')
// `ownIdentity` and `protocol` have no number of their own on the wire.
const NUMBER_OF_CODE = {
  version: wire.RejectCode.VERSION,
  mesh: wire.RejectCode.MESH,
  certificate: wire.RejectCode.CERTIFICATE,
  expired: wire.RejectCode.EXPIRED,
  clock: wire.RejectCode.CLOCK,
  nameTaken: wire.RejectCode.NAME_TAKEN,
  prefixOverlap: wire.RejectCode.PREFIX_OVERLAP,
  proof: wire.RejectCode.PROOF,
  busy: wire.RejectCode.BUSY,
  revoked: wire.RejectCode.REVOKED,
  ownIdentity: wire.RejectCode.CERTIFICATE,
  protocol: wire.RejectCode.REJECT_UNSPECIFIED,
  unspecified: wire.RejectCode.REJECT_UNSPECIFIED
} as const satisfies Record<HandshakeCode, number>
const CODE_OF_NUMBER = new Map<number, HandshakeCode>([
  [wire.RejectCode.VERSION, 'version'],
  [wire.RejectCode.MESH, 'mesh'],
  [wire.RejectCode.CERTIFICATE, 'certificate'],
  [wire.RejectCode.EXPIRED, 'expired'],
  [wire.RejectCode.CLOCK, 'clock'],
  [wire.RejectCode.NAME_TAKEN, 'nameTaken'],
  [wire.RejectCode.PREFIX_OVERLAP, 'prefixOverlap'],
  [wire.RejectCode.PROOF, 'proof'],
  [wire.RejectCode.BUSY, 'busy'],
  [wire.RejectCode.REVOKED, 'revoked']
])

type Verdict =
  | { readonly kind: 'good'; readonly chain: AgentChain }
  | { readonly kind: 'refused'; readonly code: HandshakeCode; readonly detail: string }

/**
 * Checks a Hello, the cheap checks first (invariant 3). The conflict with other clusters comes last, as it needs a
 * valid chain.
 */
function judgeHello(options: HandshakeOptions, hello: HelloMessage, nowSeconds: number): Verdict {
  const { crypto, self, remote, trustStore } = options
  const version = versionFault(hello)
  if (version !== undefined) return refused('version', version)
  if (!equalBytes(hello.meshId, self.meshId)) {
    return refused(
      'mesh',
      `the peer is in ${meshText(hello.meshId)}, this agent in ${meshIdText(self.meshId)}`
    )
  }
  if (remote === self.origin) {
    return refused(
      'ownIdentity',
      `the peer has this agent's own PeerId ${remote}, so two agents run with one state; give the copy its own state: remove its state folder and join again`
    )
  }
  if (hello.nonce.length !== NONCE_BYTES)
    return refused('protocol', `the nonce of the peer has ${hello.nonce.length} bytes, not ${NONCE_BYTES}`)
  const chain = verifyChain(hello.chain.slice(), { crypto, meshId: self.meshId, upTo: 'AGENT' })
  if (chain.kind === 'refused') return refused(chain.code === 'mesh' ? 'mesh' : 'certificate', chain.reason)
  if (chain.agentOrigin !== remote) {
    return refused(
      'certificate',
      `the certificate belongs to ${chain.agentOrigin}, but the connection to ${remote}`
    )
  }
  const denied = trustStore.denied(chain)
  if (denied !== undefined) return refused('revoked', denied)
  const known = trustStore.knowsCluster(chain.clusterKey)
  const time = checkTime(chain, nowSeconds, { knownCluster: known || options.initiator })
  if (time.kind === 'refused') return timeRefusal(time.reason, { peerSeconds: hello.unixSeconds, nowSeconds })
  return conflictOf(trustStore, chain, known) ?? { kind: 'good', chain }
}

/** Returns why no protocol version fits; undefined when one does. The text says which of the two agents to upgrade. */
function versionFault(hello: HelloMessage): string | undefined {
  const { versionMin, versionMax } = hello
  if (versionMin <= PROTOCOL_VERSION && versionMax >= PROTOCOL_VERSION) return undefined
  const spoken = versionMin === versionMax ? `${versionMin}` : `${versionMin}–${versionMax}`
  const advice = versionMin > PROTOCOL_VERSION ? 'upgrade this agent' : 'upgrade the peer'
  return `the peer speaks protocol ${spoken}, and this agent protocol ${PROTOCOL_VERSION}: ${advice}`
}

/**
 * Returns the refusal of a chain whose dates do not fit: `clock` when the two clocks differ too much to tell who is
 * right.
 */
function timeRefusal(
  reason: string,
  clocks: { readonly peerSeconds: number; readonly nowSeconds: number }
): Verdict {
  const difference = clocks.peerSeconds - clocks.nowSeconds
  if (Math.abs(difference) <= CLOCK_SKEW_SECONDS) return refused('expired', reason)
  const way = difference > 0 ? 'ahead of' : 'behind'
  const peer = Math.abs(clocks.peerSeconds) <= DATE_SECONDS_MAX ? ` (${timeText(clocks.peerSeconds)})` : ''
  const text = `the clocks differ: the clock of the peer${peer} is ${durationText(Math.abs(difference))} ${way} that of this agent; correct the wrong clock (${reason})`
  return refused('clock', text)
}

/**
 * Refuses a name or prefix that an older certificate holds. A known cluster is not refused for a prefix: the view shows
 * the conflict.
 */
function conflictOf(trustStore: TrustStore, chain: AgentChain, known: boolean): Verdict | undefined {
  const settlement = known ? trustStore.settlement() : trustStore.settlementWith(chain)
  const winner = settlement.get(chain.cluster)
  if (winner === undefined || !equalBytes(winner.grant.clusterKey, chain.clusterKey)) {
    return refused(
      'nameTaken',
      `the name ${chain.cluster} belongs to another cluster of this mesh; ask for an invite with another name`
    )
  }
  const lost = winner.conflicts.find((conflict) => conflict.what !== 'name')
  if (lost === undefined || known) return undefined
  const what = lost.what === 'podPrefix' ? 'pod' : 'service'
  return refused(
    'prefixOverlap',
    `the ${what} prefix ${lost.value} of ${chain.cluster} overlaps one of ${lost.winner}; ask for an invite with another prefix`
  )
}

/**
 * Returns the bytes that a proof signs (invariant 2). The two sides sign different bytes, so a reflected proof is not
 * valid.
 */
function proofParts(of: {
  readonly meshId: Uint8Array
  readonly prover: Origin
  readonly verifier: Origin
  readonly proverNonce: Uint8Array
  readonly verifierNonce: Uint8Array
}): readonly Uint8Array[] {
  // Every part has a fixed length (a PeerId has 52 characters), so the signed bytes can be divided in one way only.
  return [PROOF_DOMAIN, of.meshId, of.proverNonce, of.verifierNonce, utf8(of.prover), utf8(of.verifier)]
}

/** The largest number of Unix seconds that Date can represent. */
const DATE_SECONDS_MAX = 8_640_000_000_000

function meshText(meshId: Uint8Array): string {
  return meshId.length === 32 ? meshIdText(meshId) : 'no mesh'
}

function refused(code: HandshakeCode, detail: string): Verdict {
  return { kind: 'refused', code, detail }
}
