// The side of a host that becomes one more gateway of a cluster: it dials the gateway that made its token, checks that one,
// proves the token's secret, and gets the key of the cluster. Sans-I/O, like handshake.ts, which is the other side.
// Invariants
//   1. The dialled agent has proved that it is an agent of the token's cluster key, in the token's mesh, before anything
//      is signed. So another host learns the public key of the token at most, which gives nothing.
//   2. The secret of the token signs, and is in no frame. The signature holds on this connection only (transcript.ts).
//   3. What is returned as `given` is consistent: the seed is that of the token's cluster key, and the item makes that key
//      a cluster of the token's mesh.
import { equalBytes } from '../../model/bytes.ts'
import type { Crypto } from '../../model/crypto.ts'
import type { Origin } from '../../model/values.ts'
import type { ClusterSecret, Membership } from '../cluster-secret-data.ts'
import type { GatewayToken } from '../gateway-token.ts'
import { openCredential, type Credential } from '../members/credential.ts'
import { openItem } from '../set/form.ts'
import { bytesOf } from '../set/ids.ts'
import { isBootstrapAddress } from '../token-text.ts'
import { type HandshakeCode, rejection, type Rejection } from './codes.ts'
import {
  ANSWER_FRAME_BYTES_MAX,
  decodeDoorFrame,
  type DoorMessage,
  encodeGatewayKnock,
  encodeHello,
  encodeReject,
  type GatewayGift,
  NONCE_BYTES
} from './frames.ts'
import { judgeHello, PROTOCOL_VERSIONS, reasonOf } from './hello.ts'
import { NEW_GATEWAY_TOKEN } from './judge-gateway.ts'
import { gatewayKnockParts, proofParts } from './transcript.ts'

/** How a request ends. */
export type GatewayOutcome =
  | {
      readonly kind: 'given'
      /** What the gateways of the cluster share; without seats and root keys, which a token of a gateway does not give. */
      readonly secret: ClusterSecret
      /** The generation that the first certificate of this agent is to have. */
      readonly generation: number
    }
  | {
      readonly kind: 'refused'
      readonly code: HandshakeCode
      /** Reason and remedy; safe to print. */
      readonly detail: string
      readonly byPeer: boolean
      /** True when the peer had proved before that it is a gateway of the token's cluster. */
      readonly proved: boolean
    }

interface RequestOptions {
  readonly crypto: Crypto
  readonly token: Pick<GatewayToken, 'roots' | 'clusterKey' | 'cluster' | 'seed'>
  readonly self: { readonly origin: Origin; readonly software: string }
  /** The PeerId that the connection (Noise) has authenticated. */
  readonly remote: Origin
  /** Unix milliseconds, for the Hello. */
  readonly nowMs: number
}

/** One request on one connection, which this agent has dialled. The caller bounds its duration. */
export interface GatewayRequest {
  readonly start: () => readonly Uint8Array[]
  /** Takes one frame without its length prefix. Never throws. */
  readonly receive: (frame: Uint8Array) => {
    readonly send: readonly Uint8Array[]
    readonly outcome?: GatewayOutcome
  }
}

type Step = ReturnType<GatewayRequest['receive']>
type State =
  | { readonly due: 'hello' }
  | { readonly due: 'proof'; readonly credential: Credential; readonly hello: Uint8Array }
  | { readonly due: 'gatewayAdmitted' }
  | { readonly due: 'nothing' }

/** Creates the request. */
export function createGatewayRequest({ crypto, token, self, remote, nowMs }: RequestOptions): GatewayRequest {
  const { roots } = token
  const context = { crypto, roots }
  const door = {
    openCredential: (bytes: Uint8Array) =>
      openCredential({ open: (item: Uint8Array) => openItem(context, item) }, bytes),
    openItem: (bytes: Uint8Array) => openItem(context, bytes),
    knowsGateway: () => false
  }
  const ownHello = encodeHello({
    ...PROTOCOL_VERSIONS,
    meshId: roots.meshId,
    nonce: crypto.random(NONCE_BYTES),
    unixSeconds: Math.floor(nowMs / 1000),
    software: self.software,
    shows: { kind: 'gateway', key: crypto.publicKeyOf(token.seed) },
    trustHead: undefined
  })
  let state: State = { due: 'hello' }

  return {
    start: () => [ownHello],
    receive(frame) {
      if (state.due === 'nothing') return { send: [] }
      const message = decodeDoorFrame(frame, ANSWER_FRAME_BYTES_MAX)
      if (message.kind === 'reject') return onReject(message)
      if (state.due === 'hello' && (message.kind === 'hello' || message.kind === 'poorHello'))
        return onHello(message, frame)
      if (state.due === 'proof' && message.kind === 'proof') return onProof(state, message.signature)
      if (state.due === 'gatewayAdmitted' && message.kind === 'gatewayAdmitted') return onGift(message)
      const what = message.kind === 'malformed' ? message.reason : `the message ${message.kind}`
      return refuse('protocol', `the dialled agent sent ${what} where ${state.due} was due`)
    }
  }

  function onHello(message: Extract<DoorMessage, { kind: 'hello' | 'poorHello' }>, frame: Uint8Array): Step {
    const judge = { origin: self.origin, meshId: roots.meshId, remote, initiator: true, door }
    const shown = judgeHello(judge, message)
    if (shown.kind === 'refused') return end(shown)
    if (shown.kind !== 'member') return refuse('protocol', 'the dialled agent shows no credential')
    const { credential } = shown
    if (credential.cluster !== token.cluster)
      return refuse(
        'certificate',
        `the dialled agent is of cluster ${credential.cluster}, not ${token.cluster}`
      )
    if (credential.clusterKey !== token.clusterKey)
      return refuse(
        'replaced',
        `cluster ${token.cluster} has another key than the token names`,
        NEW_GATEWAY_TOKEN
      )
    state = { due: 'proof', credential, hello: frame.slice() }
    return { send: [] }
  }

  function onProof({ credential, hello }: Extract<State, { due: 'proof' }>, signature: Uint8Array): Step {
    const [own, peer] = [
      { origin: self.origin, hello: ownHello },
      { origin: remote, hello }
    ]
    const { meshId } = roots
    const theirs = proofParts(crypto, { meshId, signer: peer, verifier: own })
    if (!crypto.verify(credential.agentKey, signature, ...theirs))
      return refuse('proof', 'the proof of the dialled agent is not valid for this connection')
    state = { due: 'gatewayAdmitted' }
    const ours = gatewayKnockParts(crypto, { meshId, signer: own, verifier: peer })
    return { send: [encodeGatewayKnock(crypto.sign(token.seed, ...ours))] }
  }

  function onGift(gift: GatewayGift): Step {
    const membership = membershipOf(gift, { crypto, token })
    if (typeof membership === 'string') return refuse('certificate', membership)
    state = { due: 'nothing' }
    const secret = {
      roots,
      clusterSeed: gift.clusterSeed.slice(),
      membership,
      seats: [],
      rootSeeds: [],
      rootExported: false,
      bootstrap: gift.bootstrap.filter(isBootstrapAddress),
      ...(gift.realPrefixes.length === 0 ? {} : { realPrefixes: gift.realPrefixes })
    }
    return { send: [], outcome: { kind: 'given', secret, generation: gift.generation } }
  }

  function onReject({ code, detail }: Rejection): Step {
    const proved = isProved()
    state = { due: 'nothing' }
    return { send: [], outcome: { kind: 'refused', code, detail, byPeer: true, proved } }
  }

  function refuse(code: HandshakeCode, reason: string, remedy?: string): Step {
    return end(rejection(code, reason, remedy))
  }

  function end({ code, detail }: Rejection): Step {
    const proved = isProved()
    state = { due: 'nothing' }
    return {
      send: [encodeReject({ code, detail })],
      outcome: { kind: 'refused', code, detail, byPeer: false, proved }
    }
  }

  function isProved(): boolean {
    return state.due === 'gatewayAdmitted'
  }
}

/** The membership that an answer brings, checked against the token; or what is wrong with it, as a clause. */
function membershipOf(
  { clusterSeed, item: bytes }: GatewayGift,
  { crypto, token }: Pick<RequestOptions, 'crypto' | 'token'>
): Membership | string {
  const { roots, cluster, clusterKey } = token
  if (!equalBytes(crypto.publicKeyOf(clusterSeed), bytesOf(clusterKey)))
    return 'the seed in the answer is not that of the cluster key in the token'
  const opened = openItem({ crypto, roots }, bytes)
  if (opened.kind === 'refused') return `the item in the answer is refused: ${reasonOf(opened)}`
  const last = opened.statements.at(-1)?.statement
  const isFounding = last?.kind === 'clusterCert' && last.invite === undefined
  if (last === undefined || !(last.kind === 'admission' || isFounding) || last.clusterKey !== clusterKey)
    return 'the item in the answer does not make the key of the token a cluster'
  const cert = opened.statements.find(({ statement }) => statement.kind === 'clusterCert')?.statement
  if (cert?.kind !== 'clusterCert' || cert.name !== cluster)
    return 'the item in the answer is of a cluster with another name'
  const place = { seen: last.kind === 'admission' ? last.seen : 0, id: last.id }
  return { kind: 'member', item: bytes.slice(), cluster: cert.name, clusterKey, place }
}
