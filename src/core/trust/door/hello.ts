// Judges a peer's Hello: the cheap checks first, and signatures last, because any host can make an agent run them.
import { equalBytes } from '../../model/bytes.ts'
import { meshIdText } from '../../model/identity.ts'
import type { Origin } from '../../model/values.ts'
import type { Credential } from '../members/credential.ts'
import type { OpenedItem } from '../set/form.ts'
import type { Refusal } from '../set/statement.ts'
import { rejection, type Rejection } from './codes.ts'
import { NEW_GATEWAY_TOKEN } from './judge-gateway.ts'
import type { DoorMessage } from './frames.ts'
import type { DoorPort } from './port.ts'

/** The versions of the protocol that this program speaks. Version 1 had certificate chains. */
export const PROTOCOL_VERSIONS: Versions = { versionMin: 2, versionMax: 2 }

/** A range of protocol versions, both ends included. */
interface Versions {
  readonly versionMin: number
  readonly versionMax: number
}

/** What a Hello showed, once it is checked. */
export type Shown =
  | { readonly kind: 'member'; readonly credential: Credential; readonly version: number }
  | { readonly kind: 'newcomer'; readonly invite: OpenedItem; readonly version: number }
  /** `key`: the public key of the token, of which this agent keeps the invite. Nothing is proved yet. */
  | { readonly kind: 'gateway'; readonly key: Uint8Array; readonly version: number }

/** The agent that judges a Hello. */
interface Judge {
  readonly origin: Origin
  readonly meshId: Uint8Array
  /** The PeerId that the connection has authenticated. */
  readonly remote: Origin
  readonly initiator: boolean
  readonly door: Pick<DoorPort, 'openCredential' | 'openItem' | 'knowsGateway'>
}

/** The two agents of a connection by their part in it, so that a text means the same on both sides. */
export function parts(initiator: boolean): { readonly own: string; readonly peer: string } {
  const [dialling, dialled] = ['the dialling agent', 'the dialled agent']
  return initiator ? { own: dialling, peer: dialled } : { own: dialled, peer: dialling }
}

/** Judges a Hello; `received` is the message that came where one was due. */
export function judgeHello(
  judge: Judge,
  received: Extract<DoorMessage, { kind: 'hello' | 'poorHello' }>
): Shown | ({ readonly kind: 'refused' } & Rejection) {
  const { own, peer } = parts(judge.initiator)
  // Versions and mesh can be read of any Hello, so that an agent of another version or mesh hears the real reason.
  const head = received.kind === 'hello' ? received.hello : received.head
  const version = commonVersion(PROTOCOL_VERSIONS, head)
  if (version === undefined) {
    const older = head.versionMax < PROTOCOL_VERSIONS.versionMin ? peer : own
    return refused(
      'version',
      `${peer} speaks protocol ${rangeText(head)}, ${own} protocol ${rangeText(PROTOCOL_VERSIONS)}`,
      `upgrade ${older}`
    )
  }
  if (!equalBytes(head.meshId, judge.meshId))
    return refused('mesh', `${peer} is in ${meshText(head.meshId)}, ${own} in ${meshIdText(judge.meshId)}`)
  if (judge.remote === judge.origin)
    return refused(
      'ownIdentity',
      `both agents have the PeerId ${judge.remote}, so two agents run with one state`
    )
  if (received.kind === 'poorHello') return refused('protocol', `${peer} sent ${received.reason}`)
  const { shows } = received.hello
  switch (shows.kind) {
    case 'credential':
      return judgeCredential(judge, shows.item, version)
    case 'invite':
      return judgeInvite(judge, shows.item, version)
    case 'gateway':
      return judgeGatewayKey(judge, shows.key, version)
    default:
      return shows satisfies never
  }
}

/** The highest version of both ranges; undefined when they have none in common. */
export function commonVersion(own: Versions, peer: Versions): number | undefined {
  const highest = Math.min(own.versionMax, peer.versionMax)
  return highest >= Math.max(own.versionMin, peer.versionMin) ? highest : undefined
}

function judgeCredential(judge: Judge, item: Uint8Array, version: number): ReturnType<typeof judgeHello> {
  const { peer } = parts(judge.initiator)
  const credential = judge.door.openCredential(item)
  if (credential.kind === 'refused')
    return refused('certificate', `the credential of ${peer} is refused: ${reasonOf(credential)}`)
  if (credential.origin !== judge.remote)
    return refused(
      'certificate',
      `the credential belongs to ${credential.origin}, but the connection to ${judge.remote}`
    )
  return { kind: 'member', credential, version }
}

/** Only an agent that dials is a newcomer: a member dials members, and so does a newcomer. */
function judgeInvite(judge: Judge, item: Uint8Array, version: number): ReturnType<typeof judgeHello> {
  const { peer } = parts(judge.initiator)
  if (judge.initiator)
    return refused(
      'protocol',
      `${peer} shows an invite, and is no member yet`,
      'connect to a member of the mesh'
    )
  const invite = judge.door.openItem(item)
  if (invite.kind === 'refused')
    return refused('certificate', `the invite of ${peer} is refused: ${reasonOf(invite)}`)
  const last = invite.statements.at(-1)?.statement.kind
  if (last !== 'invite')
    return refused('certificate', `${peer} shows a statement of the kind ${last} in place of an invite`)
  return { kind: 'newcomer', invite, version }
}

/** A key that is not known here costs no signature, so a stranger without a token learns no more than that. */
function judgeGatewayKey(judge: Judge, key: Uint8Array, version: number): ReturnType<typeof judgeHello> {
  const { own, peer } = parts(judge.initiator)
  if (judge.initiator)
    return refused(
      'protocol',
      `${peer} shows the token of a gateway, and is no member yet`,
      'connect to a member of the mesh'
    )
  return judge.door.knowsGateway(key, judge.remote)
    ? { kind: 'gateway', key, version }
    : refused('cancelled', `${own} keeps no such invite of a gateway`, NEW_GATEWAY_TOKEN)
}

/** One clause that names the statement and the field at fault. */
export function reasonOf({ statement, field, reason }: Refusal): string {
  return `${statement}${field === '' ? '' : `.${field}`}: ${reason}`
}

function rangeText({ versionMin, versionMax }: Versions): string {
  return versionMin === versionMax ? `${versionMin}` : `${versionMin}–${versionMax}`
}

function meshText(meshId: Uint8Array): string {
  return meshId.length === 32 ? meshIdText(meshId) : 'no mesh'
}

function refused(...args: Parameters<typeof rejection>): { readonly kind: 'refused' } & Rejection {
  return { kind: 'refused', ...rejection(...args) }
}
