// The handshake of two agents on a new connection. Sans-I/O: frames in, frames out.
//
//   dialling agent → Hello {versions, mesh, nonce, clock, credential; or, of a newcomer, its invite}
//   dialled agent  → Hello {…, credential}, Proof
//   a member       → Proof                       both are accepted
//   a newcomer     → Knock                       the dialled agent's caller decides
//   dialled agent  → Admitted                    the newcomer writes it, and begins again as a member
//   a new gateway  → GatewayKnock                the dialled agent's caller decides (gateway-request.ts is its side)
//   dialled agent  → GatewayAdmitted             the connection ends, and the new gateway connects as a member
//   Reject ends it at any time; every other message that is not the one due is refused.
//
// Invariants
//   1. Before mutual authentication only the messages of mesh.proto, "The door", are sent and accepted, each in the one
//      state in which it is due (`due`). After the end no frame is sent and nothing is accepted.
//   2. The agent of the credential is the PeerId that the connection (Noise) authenticated, and its key signs both
//      Hellos and both PeerIds (transcript.ts).
//   3. The dialled agent shows and proves itself first to a newcomer, which checks it before it shows its certificate.
//   4. A newcomer's seeds sign, and are in no frame. The invite's seed is not even known here.
//   5. Cheap checks come before signatures, and every frame is bounded before it is decoded (frames.ts).
import type { Crypto } from '../../model/crypto.ts'
import type { Origin } from '../../model/values.ts'
import { encodeItem } from '../set/form.ts'
import { bytesOf } from '../set/ids.ts'
import { judgeAdmitted } from './admitted.ts'
import { type HandshakeCode, rejection, type Rejection } from './codes.ts'
import { fallenRejection } from './fallen.ts'
import {
  ANSWER_FRAME_BYTES_MAX,
  decodeDoorFrame,
  DOOR_FRAME_BYTES_MAX,
  type DoorMessage,
  encodeAdmitted,
  encodeGatewayAdmitted,
  encodeHello,
  encodeKnock,
  encodeProof,
  encodeReject,
  type Hello,
  NONCE_BYTES,
  type TrustHead
} from './frames.ts'
import { judgeHello, parts, PROTOCOL_VERSIONS, reasonOf, type Shown } from './hello.ts'
import { openOwn, type Own } from './own-items.ts'
import type { Answer, DoorPort, GatewayAnswer, HandshakeOutcome, HandshakeStep } from './port.ts'
import { gatewayKnockParts, knockParts, proofParts, type Transcript } from './transcript.ts'

/** This agent. */
export interface HandshakeSelf {
  readonly origin: Origin
  /** The Ed25519 seed of the agent's key, 32 bytes. */
  readonly seed: Uint8Array
  readonly meshId: Uint8Array
  readonly software: string
  readonly shows:
    | { readonly kind: 'member'; readonly credential: Uint8Array; readonly trustHead?: TrustHead | undefined }
    | {
        readonly kind: 'newcomer'
        /** The encoded item of seats, invite and cluster certificate. */
        readonly certItem: Uint8Array
        /** The Ed25519 seed of the cluster key, 32 bytes. */
        readonly clusterSeed: Uint8Array
      }
}

/** The options of `createHandshake`. */
interface HandshakeOptions {
  readonly crypto: Crypto
  readonly self: HandshakeSelf
  /** The PeerId that the connection (Noise) has authenticated. */
  readonly remote: Origin
  /** True when this agent dialled. The two sides of a connection must not say the same. */
  readonly initiator: boolean
  /** Unix milliseconds, for the Hello. */
  readonly nowMs: number
  readonly door: DoorPort
}

/** One side of one handshake. The caller bounds its duration. */
export interface Handshake {
  /** The frames to send when the connection is open: none for the agent that was dialled. */
  start(): readonly Uint8Array[]
  /** Takes one frame without its length prefix. Never throws. */
  receive(frame: Uint8Array, nowMs: number): HandshakeStep
  /**
   * Answers a knock. After `admitted` this handshake is over, and the caller begins another one on the connection, on
   * the same side: the newcomer begins again with its credential. A new gateway does so on a new connection. Without a
   * knock that waits, nothing is sent.
   */
  answer(answer: Answer | GatewayAnswer): HandshakeStep
}

/** A peer whose Hello was taken. */
interface Peer {
  readonly hello: Hello
  readonly frame: Uint8Array
  readonly shown: Shown
  readonly clockSkewSeconds: number
}

/** A peer that showed a credential, a newcomer, and one more gateway of this cluster. */
type Member = Peer & { readonly shown: Extract<Shown, { kind: 'member' }> }
type Newcomer = Peer & { readonly shown: Extract<Shown, { kind: 'newcomer' }> }
type NewGateway = Peer & { readonly shown: Extract<Shown, { kind: 'gateway' }> }

/** The message that is due from the peer. */
type State =
  | { readonly due: 'hello' }
  | { readonly due: 'proof'; readonly peer: Member }
  | { readonly due: 'knock'; readonly peer: Newcomer }
  | { readonly due: 'gatewayKnock'; readonly peer: NewGateway }
  /** This agent knocked. */
  | { readonly due: 'admitted'; readonly peer: Member }
  /** The caller decides on a knock; the peer must wait. */
  | { readonly due: 'silence' }
  | { readonly due: 'nothing' }

/** Creates this agent's side of one handshake. Throws when this agent's own items are damaged. */
export function createHandshake(options: HandshakeOptions): Handshake {
  const { crypto, self, remote, initiator, door } = options
  const names = parts(initiator)
  const own = self.shows.kind === 'newcomer' ? openOwn(options, self.shows) : undefined
  const ownHello = encodeHello(helloOf(options, own))
  let state: State = { due: 'hello' }
  /** Whether the peer has proved that it is a member. */
  let proved = false

  return {
    start: () => (initiator ? [ownHello] : []),
    receive(frame, nowMs) {
      if (state.due === 'nothing') return NOTHING
      const message = decodeDoorFrame(frame, initiator ? ANSWER_FRAME_BYTES_MAX : DOOR_FRAME_BYTES_MAX)
      if (message.kind === 'reject') return onReject(message)
      if (message.kind === 'malformed') return refuse('protocol', `${names.peer} sent ${message.reason}`)
      return onMessage(message, frame, nowMs)
    },
    answer(answer) {
      if (state.due !== 'silence') return NOTHING
      if (answer.kind === 'reject') return end(answer, answer.explain)
      state = { due: 'nothing' }
      if (answer.kind === 'gateway') return { send: [encodeGatewayAdmitted(answer.gift)] }
      return { send: [encodeAdmitted(answer.item, answer.sponsor)] }
    }
  }

  /** The transitions of invariant 1. */
  function onMessage(
    message: Exclude<DoorMessage, { kind: 'reject' | 'malformed' }>,
    frame: Uint8Array,
    nowMs: number
  ): HandshakeStep {
    if (state.due === 'hello' && (message.kind === 'hello' || message.kind === 'poorHello'))
      return onHello(message, frame, nowMs)
    if (state.due === 'proof' && message.kind === 'proof') return onProof(state.peer, message.signature)
    if (state.due === 'knock' && message.kind === 'knock') return onKnock(state.peer, message)
    if (state.due === 'gatewayKnock' && message.kind === 'gatewayKnock')
      return onGatewayKnock(state.peer, message.signature)
    if (state.due === 'admitted' && message.kind === 'admitted') return onAdmitted(state.peer, message)
    const kind = message.kind === 'poorHello' ? 'hello' : message.kind
    const due = state.due === 'silence' ? 'an answer was' : `${state.due} was`
    return refuse('protocol', `${names.peer} sent the message ${kind} where ${due} due`)
  }

  function onHello(
    message: Extract<DoorMessage, { kind: 'hello' | 'poorHello' }>,
    frame: Uint8Array,
    nowMs: number
  ): HandshakeStep {
    // A newcomer has nothing that a peer could check, so it cannot be dialled.
    if (!initiator && own !== undefined)
      return refuse('busy', `${names.own} has not joined the mesh yet`, 'connect to a member of the mesh')
    const { origin, meshId } = self
    const shown = judgeHello({ origin, meshId, remote, initiator, door }, message)
    if (shown.kind === 'refused') return end(shown)
    if (message.kind !== 'hello') return refuse('protocol', `${names.peer} sent ${message.reason}`)
    const { hello } = message
    const clockSkewSeconds = hello.unixSeconds - Math.floor(nowMs / 1000)
    const peer = { hello, frame: frame.slice(), clockSkewSeconds }
    state = dueAfter(peer, shown)
    return { send: initiator ? [] : [ownHello, proofTo(frame)] }
  }

  function onProof(peer: Member, signature: Uint8Array): HandshakeStep {
    const { credential } = peer.shown
    if (!crypto.verify(credential.agentKey, signature, ...proofParts(crypto, transcriptOfPeer(peer))))
      return refuse('proof', `the proof of ${names.peer} is not valid for this connection`)
    proved = true
    if (own === undefined) return accept(peer)
    const verdict = door.verdictOn(credential)
    if (verdict.kind === 'fallen') return end(fallenRejection('the sponsor', verdict, NEXT_DOOR))
    state = { due: 'admitted', peer }
    const signed = knockParts(crypto, transcriptOfOwn(peer.frame), own.certEnvelope)
    return { send: [encodeKnock(own.certEnvelope, crypto.sign(own.clusterSeed, ...signed))] }
  }

  /** Mutual authentication is complete; the agent that dialled sends its proof now. */
  function accept(peer: Member): HandshakeStep {
    state = { due: 'nothing' }
    const { hello, clockSkewSeconds, shown } = peer
    const { credential, version } = shown
    return {
      send: initiator ? [proofTo(peer.frame)] : [],
      outcome: {
        kind: 'accepted',
        credential,
        standing: door.verdictOn(credential).kind,
        version,
        software: hello.software,
        trustHead: hello.trustHead,
        clockSkewSeconds
      }
    }
  }

  function onKnock(peer: Newcomer, knock: Extract<DoorMessage, { kind: 'knock' }>): HandshakeStep {
    const { invite } = peer.shown
    // The certificate is opened after the statements of the invite of the Hello, so it is one by that invite.
    const bytes = encodeItem([...invite.statements.map(({ envelope }) => envelope), knock.clusterCert])
    const item = door.openItem(bytes)
    if (item.kind === 'refused')
      return refuse('certificate', `the certificate of ${names.peer} is refused: ${reasonOf(item)}`)
    const cert = item.statements.at(-1)?.statement
    if (cert?.kind !== 'clusterCert')
      return refuse('certificate', `${names.peer} knocks with a statement of the kind ${cert?.kind}`)
    const signed = knockParts(crypto, transcriptOfPeer(peer), knock.clusterCert)
    if (!crypto.verify(bytesOf(cert.clusterKey), knock.signature, ...signed))
      return refuse(
        'proof',
        `the knock of ${names.peer} is not signed by its cluster key for this connection`
      )
    state = { due: 'silence' }
    const { software, unixSeconds } = peer.hello
    return { send: [], outcome: { kind: 'knock', item, bytes, software, peerSeconds: unixSeconds } }
  }

  function onGatewayKnock(peer: NewGateway, signature: Uint8Array): HandshakeStep {
    const { key } = peer.shown
    if (!crypto.verify(key, signature, ...gatewayKnockParts(crypto, transcriptOfPeer(peer))))
      return refuse('proof', `the knock of ${names.peer} is not signed by the key of its token`)
    state = { due: 'silence' }
    return { send: [], outcome: { kind: 'gatewayKnock', key, software: peer.hello.software } }
  }

  function onAdmitted(peer: Member, answer: Extract<DoorMessage, { kind: 'admitted' }>): HandshakeStep {
    if (own === undefined) return refuse('protocol', `${names.own} did not knock`)
    const sponsor = peer.shown.credential
    const { id: invite, replaces } = own.invite
    const { clusterKey } = own.cert
    const verdict = judgeAdmitted({ door, invite, replaces, clusterKey, sponsor }, answer)
    if (verdict.kind === 'bad') return refuse('certificate', verdict.reason, NEXT_DOOR)
    state = { due: 'nothing' }
    const { item, sponsorItem } = verdict
    const { clockSkewSeconds } = peer
    const bytes = answer.item.slice()
    return { send: [], outcome: { kind: 'admitted', bytes, item, sponsor, sponsorItem, clockSkewSeconds } }
  }

  function onReject(reject: Extract<DoorMessage, { kind: 'reject' }>): HandshakeStep {
    state = { due: 'nothing' }
    const { code, detail } = reject
    // Only a member knows what explains a refusal; of any other peer the signatures are not worth their verification.
    const explain = proved ? reject.explain.map((item) => door.openItem(item)) : []
    const outcome: HandshakeOutcome = {
      kind: 'refused',
      code,
      detail,
      byPeer: true,
      proved,
      explain: explain.filter((item) => item.kind === 'item')
    }
    return { send: [], outcome }
  }

  function refuse(code: HandshakeCode, reason: string, remedy?: string): HandshakeStep {
    return end(rejection(code, reason, remedy))
  }

  /** Ends the handshake and tells the peer why, so that both operators read the same reason. */
  function end({ code, detail }: Rejection, explain: readonly Uint8Array[] = []): HandshakeStep {
    state = { due: 'nothing' }
    const bytesMax = initiator ? DOOR_FRAME_BYTES_MAX : ANSWER_FRAME_BYTES_MAX
    return {
      send: [encodeReject({ code, detail }, explain, bytesMax)],
      outcome: { kind: 'refused', code, detail, byPeer: false, proved, explain: [] }
    }
  }

  /** This agent's proof, of its Hello and the peer's. */
  function proofTo(peerHello: Uint8Array): Uint8Array {
    return encodeProof(crypto.sign(self.seed, ...proofParts(crypto, transcriptOfOwn(peerHello))))
  }

  function transcriptOfOwn(peerHello: Uint8Array): Transcript {
    return {
      meshId: self.meshId,
      signer: { origin: self.origin, hello: ownHello },
      verifier: { origin: remote, hello: peerHello }
    }
  }

  function transcriptOfPeer({ frame }: Peer): Transcript {
    const { meshId, signer, verifier } = transcriptOfOwn(frame)
    return { meshId, signer: verifier, verifier: signer }
  }
}

/** The message that is due after a Hello that was taken. */
function dueAfter(peer: Omit<Peer, 'shown'>, shown: Shown): State {
  switch (shown.kind) {
    case 'member':
      return { due: 'proof', peer: { ...peer, shown } }
    case 'newcomer':
      return { due: 'knock', peer: { ...peer, shown } }
    case 'gateway':
      return { due: 'gatewayKnock', peer: { ...peer, shown } }
    default:
      return shown satisfies never
  }
}

/** After the end, or without a knock. */
const NOTHING: HandshakeStep = { send: [] }
/** The remedy where the fault is the sponsor's. */
const NEXT_DOOR = 'join through another member'

/** This agent's Hello. */
function helloOf({ crypto, self, nowMs }: HandshakeOptions, own: Own | undefined): Hello {
  const { meshId, software, shows } = self
  return {
    ...PROTOCOL_VERSIONS,
    meshId,
    nonce: crypto.random(NONCE_BYTES),
    unixSeconds: Math.floor(nowMs / 1000),
    software,
    shows:
      shows.kind === 'member'
        ? { kind: 'credential', item: shows.credential }
        : { kind: 'invite', item: own?.inviteItem ?? new Uint8Array(0) },
    trustHead: shows.kind === 'member' ? shows.trustHead : undefined
  }
}
