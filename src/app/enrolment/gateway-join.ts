// How a host becomes one more gateway of a cluster with a token of `meshctl invite --gateway`: it dials the gateway that made
// the token, and gets the key of the cluster (core/trust/door/gateway-request.ts). Nothing has to be on disk before: the
// PeerId of this agent is, and the other gateway gives the key to the same PeerId again.
import type { Crypto } from '../../core/model/crypto.ts'
import { codeOfKind } from '../../core/model/coded-error.ts'
import type { Origin } from '../../core/model/values.ts'
import { RETRY_CODES } from '../../core/trust/door/codes.ts'
import {
  createGatewayRequest,
  type GatewayOutcome,
  type GatewayRequest
} from '../../core/trust/door/gateway-request.ts'
import { decodeGatewayToken, type GatewayToken } from '../../core/trust/gateway-token.ts'
import { createTransport, type Target, type Transport } from '../../io/p2p/transport.ts'
import type { Identity } from '../../io/store/store.ts'
import { bytes } from '../identity/encoding.ts'
import { joinedWith, withoutMesh } from '../identity/identity.ts'
import { withShared } from '../identity/shared-identity.ts'
import { AppError } from '../observe/errors.ts'
import type { Log } from '../observe/log.ts'
import { VERSION } from '../observe/version.ts'

interface AskOptions {
  readonly crypto: Crypto
  readonly log: Log
  /** Milliseconds until the gateway has to have answered. */
  readonly deadlineMs: number
}

interface GatewayJoinOptions extends AskOptions {
  /** Whether this agent takes its services from a Kubernetes API, and so the key from a Secret. */
  readonly hasSecret: boolean
}

/**
 * Resolves to the identity of one more gateway of the token's cluster; the caller saves it. Errors: AppError KEY_IN_SECRET, TOKEN_*,
 * MESH_* for a refusal, UNREACHABLE; after all of them the same token can be tried again.
 */
export async function becomeGateway(
  text: string,
  before: Identity,
  options: GatewayJoinOptions
): Promise<Identity> {
  const { crypto } = options
  if (options.hasSecret)
    throw new AppError(
      'KEY_IN_SECRET',
      'the token is for a gateway of a site without Kubernetes, but this agent takes its services from a Kubernetes API',
      'run `meshctl join` on a host whose setting source is folder; gateways of a Kubernetes cluster need no token'
    )
  const token = decodeGatewayToken(crypto, text)
  if (token.kind === 'refused')
    throw new AppError(codeOfKind('TOKEN', token.code), `token: ${token.message}`, token.fix)
  const given = await askForKey(token, bytes(before.nodeSeed), options)
  const bootstrap = [...new Set([...token.bootstrap, ...given.secret.bootstrap])]
  const nowMs = Date.now()
  const { generation } = given
  const fresh = { ...withoutMesh(before), joinedBy: 'gateway' as const, generation, generationAtMs: nowMs }
  const identity = withShared(fresh, { ...given.secret, bootstrap }, { crypto, nowMs })
  return joinedWith(identity, { crypto, token: text })
}

type Given = Extract<GatewayOutcome, { kind: 'given' }>

/**
 * Dials until the gateway has answered; a refusal that a later try may change is tried again. `seed`: of this agent. Errors:
 * AppError MESH_*, UNREACHABLE.
 */
export async function askForKey(
  token: Pick<GatewayToken, 'roots' | 'clusterKey' | 'cluster' | 'seed' | 'bootstrap'>,
  seed: Uint8Array,
  { crypto, log, deadlineMs }: AskOptions
): Promise<Given> {
  const done = Promise.withResolvers<Given>()
  const requests = new Map<Origin, GatewayRequest>()
  let later: AppError | undefined
  const transport: Transport = createTransport({
    seed,
    listen: [],
    handlers: {
      neighbourUp: (peer) => {
        const self = { origin: transport.origin, software: VERSION }
        const request = createGatewayRequest({ crypto, token, self, remote: peer, nowMs: Date.now() })
        requests.set(peer, request)
        for (const frame of request.start()) transport.send(peer, frame)
      },
      frame: (peer, frame) => {
        const { send = [], outcome } = requests.get(peer)?.receive(frame) ?? {}
        for (const one of send) transport.send(peer, one)
        if (outcome?.kind === 'given') return done.resolve(outcome)
        if (outcome === undefined) return
        const error = refusalOf(outcome)
        log.warn({ peer, code: outcome.code, detail: outcome.detail }, 'the gateway gave no key')
        if (RETRY_CODES.has(outcome.code)) later = error
        else done.reject(error)
        transport.disconnect(peer, outcome.detail)
      },
      neighbourDown: (peer) => void requests.delete(peer)
    }
  })
  const deadline = setTimeout(() => done.reject(later ?? unreachable(transport, deadlineMs)), deadlineMs)
  // A refusal can come before the await below; without this handler it would be an unhandled rejection.
  done.promise.catch(() => undefined)
  try {
    await transport.start()
    transport.setTargets(targetsOf(token.bootstrap))
    return await done.promise
  } finally {
    clearTimeout(deadline)
    await transport.stop()
  }
}

/** One target for each PeerId. */
function targetsOf(bootstrap: readonly string[]): readonly Target[] {
  const byPeer = Map.groupBy(bootstrap, (address) => address.split('/p2p/').at(-1) ?? '')
  return [...byPeer].map(([origin, addresses]) => ({
    origin: origin as Origin,
    addresses: addresses.map((address) => address.slice(0, address.lastIndexOf('/p2p/')))
  }))
}

function refusalOf({ code, detail, byPeer }: Extract<GatewayOutcome, { kind: 'refused' }>): AppError {
  const who = byPeer ? 'the gateway refused this agent' : 'this agent refused the gateway'
  // The text of a refusal ends with its remedy, after the first semicolon.
  const at = detail.indexOf('; ')
  const [reason, fix] =
    at < 0 ? [detail, 'read the log of that gateway'] : [detail.slice(0, at), detail.slice(at + 2)]
  return new AppError(codeOfKind('MESH', code), `${who}: ${reason}`, fix)
}

function unreachable(transport: Transport, deadlineMs: number): AppError {
  const tried = transport
    .dialState()
    .map(
      ({ addresses, lastError }) =>
        `${addresses.join(', ')}${lastError === undefined ? '' : ` (${lastError})`}`
    )
  return new AppError(
    'UNREACHABLE',
    `the gateway that made the token did not answer within ${deadlineMs / 1000} s: ${tried.join('; ')}`,
    'check that meshd runs there and that its control port (TCP) is reachable from here, then join again with the same token'
  )
}
