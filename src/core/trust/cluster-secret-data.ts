// The format of the Secret that the gateways of one cluster share (cluster-secret.ts): the field `data`, whose values are
// base64. Every item in it is verified when it is read, and every seed must belong to the key that its item names; so
// what was read can be used without another check. The content is secret: reasons name fields and quote nothing.
import { equalBytes } from '../model/bytes.ts'
import type { Crypto } from '../model/crypto.ts'
import type { Fields } from '../model/field-check.ts'
import { parseRealPrefix, realPrefixText, type RealPrefix } from '../model/translation.ts'
import type { ClusterName } from '../model/values.ts'
import { openItem } from './set/form.ts'
import { bytesOf, compareText, type KeyId, keyId, type StatementId } from './set/ids.ts'
import { meshRoots, type MeshRoots } from './set/mesh-roots.ts'
import type { Statement } from './set/statement.ts'

/** What the gateways share. */
export interface ClusterSecret {
  readonly roots: MeshRoots
  /** The Ed25519 seed of the cluster key, 32 bytes; a secret. */
  readonly clusterSeed: Uint8Array
  readonly membership: Membership
  /** The administrators' seats of this cluster, by id. */
  readonly seats: readonly SharedSeat[]
  /** Seeds of roots of the mesh, in the order of their keys; empty after they were exported. Secrets. */
  readonly rootSeeds: readonly Uint8Array[]
  /** True once the root seeds were exported; they are then removed everywhere. */
  readonly rootExported: boolean
  /** Multiaddrs that end in /p2p/<PeerId>; a new gateway dials them first. */
  readonly bootstrap: readonly string[]
  /** How the addresses of this cluster are translated; absent where they are not. */
  readonly realPrefixes?: readonly RealPrefix[]
}

/** How far a cluster key has come. */
export type Membership =
  /** Admitted, or founding. `item` is the encoded TrustItem down to the admission or the founding certificate. */
  | ({ readonly kind: 'member'; readonly item: Uint8Array } & MemberFacts)
  /** A token was redeemed, and no member has admitted the key yet. */
  | ({ readonly kind: 'pending' } & PendingParts & PendingFacts)

/** What redeems a token at any door: everything that a knock needs. */
interface PendingParts {
  /** Encoded TrustItem of the invite. */
  readonly inviteItem: Uint8Array
  /** The secret of the token. */
  readonly inviteSeed: Uint8Array
  /** Encoded TrustItem down to the cluster certificate. */
  readonly certItem: Uint8Array
}

/** What the item of a member says. */
interface MemberFacts {
  readonly cluster: ClusterName
  readonly clusterKey: KeyId
  /** The place of its admission; of a founding certificate `seen` is 0. */
  readonly place: { readonly seen: number; readonly id: StatementId }
}

/** What the invite of a pending key says. */
interface PendingFacts {
  readonly cluster: ClusterName
  readonly clusterKey: KeyId
  /** The cluster key whose place this one takes. */
  readonly replaces: KeyId | undefined
}

/** A seat and the key that signs for it. */
export interface SharedSeat {
  readonly id: StatementId
  /** Ed25519 seed of the administrator's key; a secret. */
  readonly adminSeed: Uint8Array
  /** Encoded TrustItem of the seat. */
  readonly seatItem: Uint8Array
}

/** The content of the Secret. */
export type SecretReading =
  | { readonly kind: 'empty' }
  | { readonly kind: 'secret'; readonly secret: ClusterSecret }
  /** The content cannot be read. `reason` quotes no part of it. */
  | { readonly kind: 'corrupt'; readonly reason: string }

/** Bootstrap addresses of a cluster. The list includes those of gateways that are gone, which are never removed. */
export const SECRET_BOOTSTRAP_MAX = 32
/** Seats of one cluster. With items at their bounds, the Secret stays far below the 1 MiB that Kubernetes allows. */
export const SECRET_SEATS_MAX = 16
const MULTIADDR_CHARACTERS_MAX = 256
const SEED_BYTES = 32
/** Base64 characters of one field: the seats, whose items are in base64 themselves, are the longest. */
const FIELD_CHARACTERS_MAX = 512 * 1024

/**
 * Reads the field `data` of the Secret, whose values are base64. Every item is verified, and every seed must belong to
 * the key that its item names. Never throws: damaged content is `corrupt`.
 */
export function readClusterSecret(data: Fields, crypto: Crypto): SecretReading {
  if (Object.keys(data).length === 0) return { kind: 'empty' }
  try {
    return { kind: 'secret', secret: read(new SecretFields(data), crypto) }
  } catch (error) {
    if (error instanceof Unreadable) return { kind: 'corrupt', reason: error.message }
    throw error
  }
}

/** Whether a text can be one of the bootstrap addresses. */
export function isBootstrapAddress(text: string): boolean {
  return text.length <= MULTIADDR_CHARACTERS_MAX && text.includes('/p2p/')
}

/** Encodes what the gateways share as the field `data` of the Secret, with base64 values. */
export function clusterSecretData(secret: ClusterSecret): Readonly<Record<string, string>> {
  const { roots, membership, seats, rootSeeds, realPrefixes = [] } = secret
  const text = (value: string): string => toBase64(new TextEncoder().encode(value))
  const parts: Readonly<Record<string, Uint8Array>> =
    membership.kind === 'member'
      ? { item: membership.item }
      : {
          inviteItem: membership.inviteItem,
          inviteSeed: membership.inviteSeed,
          certItem: membership.certItem
        }
  return {
    roots: toBase64(joined([Uint8Array.of(roots.k), ...roots.keys])),
    clusterSeed: toBase64(secret.clusterSeed),
    ...Object.fromEntries(Object.entries(parts).map(([name, value]) => [name, toBase64(value)])),
    seats: text(
      // By id, and no more than the bound: an agent keeps further ones in its own state folder.
      seats
        .toSorted((a, b) => compareText(a.id, b.id))
        .slice(0, SECRET_SEATS_MAX)
        .map(({ adminSeed, seatItem }) => `${toBase64(adminSeed)} ${toBase64(seatItem)}`)
        .join('\n')
    ),
    rootSeeds: toBase64(joined(rootSeeds)),
    rootExported: text(String(secret.rootExported)),
    bootstrap: text(secret.bootstrap.join('\n')),
    ...(realPrefixes.length === 0 ? {} : { realPrefixes: text(realPrefixes.map(realPrefixText).join('\n')) })
  }
}

/** Thrown inside readClusterSecret for content that is damaged. The message names the field and quotes nothing. */
class Unreadable extends Error {
  override readonly name = 'Unreadable'
}

/** The fields of the Secret, decoded from base64. */
class SecretFields {
  readonly #data: Fields

  constructor(data: Fields) {
    this.#data = data
  }

  has(name: string): boolean {
    return this.#data[name] !== undefined
  }

  bytes(name: string): Uint8Array {
    const bytes = fromBase64(this.#data[name])
    if (bytes === undefined) throw new Unreadable(`its field ${name} is missing or malformed`)
    return bytes
  }

  seed(name: string): Uint8Array {
    const seed = this.bytes(name)
    if (seed.length !== SEED_BYTES) throw new Unreadable(`its field ${name} has not ${SEED_BYTES} bytes`)
    return seed
  }

  /** A list of seeds, one after the other; empty when the field is missing. */
  seeds(name: string): readonly Uint8Array[] {
    if (!this.has(name)) return []
    const bytes = this.bytes(name)
    if (bytes.length % SEED_BYTES !== 0) throw new Unreadable(`its field ${name} is no list of keys`)
    return Array.from({ length: bytes.length / SEED_BYTES }, (_, at) =>
      bytes.slice(at * SEED_BYTES, (at + 1) * SEED_BYTES)
    )
  }

  /** The lines of a text; none when the field is missing. */
  lines(name: string): readonly string[] {
    if (!this.has(name)) return []
    return new TextDecoder()
      .decode(this.bytes(name))
      .split('\n')
      .filter((line) => line !== '')
  }
}

/** Reads and verifies all fields. Throws Unreadable. */
function read(fields: SecretFields, crypto: Crypto): ClusterSecret {
  const roots = rootsOf(fields.bytes('roots'), crypto)
  const clusterSeed = fields.seed('clusterSeed')
  const key = keyId(crypto.publicKeyOf(clusterSeed))
  const verify = (name: string, item: Uint8Array) => opened(name, item, { crypto, roots })
  const membership = fields.has('item') ? readMember(fields, verify) : readPending(fields, verify, crypto)
  if (membership.clusterKey !== key)
    throw new Unreadable('its clusterSeed is not that of the key that its item certifies')
  const rootSeeds = fields.seeds('rootSeeds')
  const isRoot = (seed: Uint8Array) => roots.keys.some((root) => equalBytes(root, crypto.publicKeyOf(seed)))
  if (!rootSeeds.every(isRoot)) throw new Unreadable('one of its rootSeeds is no root of the mesh')
  const bootstrap = fields.lines('bootstrap')
  if (bootstrap.length > SECRET_BOOTSTRAP_MAX || !bootstrap.every(isBootstrapAddress))
    throw new Unreadable('its bootstrap is not a list of multiaddrs')
  const realPrefixes = fields.lines('realPrefixes').map(parseRealPrefix)
  if (!realPrefixes.every((prefix) => prefix !== undefined))
    throw new Unreadable('its realPrefixes are not a list of prefixes')
  return {
    roots,
    clusterSeed,
    membership,
    seats: readSeats(fields, verify, crypto),
    rootSeeds,
    rootExported: fields.lines('rootExported').join() === 'true',
    bootstrap,
    ...(realPrefixes.length === 0 ? {} : { realPrefixes })
  }
}

/** Opens an item of a field; throws Unreadable when it is refused. */
type Verify = (name: string, item: Uint8Array) => readonly Statement[]

function opened(
  name: string,
  bytes: Uint8Array,
  context: { readonly crypto: Crypto; readonly roots: MeshRoots }
): readonly Statement[] {
  const item = openItem(context, bytes)
  if (item.kind === 'refused') throw new Unreadable(`its field ${name} is refused: ${item.reason}`)
  return item.statements.map(({ statement }) => statement)
}

/** The membership of an admitted or founding key. */
function readMember(fields: SecretFields, verify: Verify): Membership {
  const item = fields.bytes('item')
  const statements = verify('item', item)
  const last = statements.at(-1)
  const cert = statements.find(({ kind }) => kind === 'clusterCert')
  const isFounding = last?.kind === 'clusterCert' && last.invite === undefined
  if (cert?.kind !== 'clusterCert' || !(last?.kind === 'admission' || isFounding))
    throw new Unreadable('its field item ends in no admission and no founding certificate')
  const place = { seen: last.kind === 'admission' ? last.seen : 0, id: last.id }
  return { kind: 'member', item, cluster: cert.name, clusterKey: cert.clusterKey, place }
}

/** The membership of a key that no member has admitted. */
function readPending(fields: SecretFields, verify: Verify, crypto: Crypto): Membership {
  const [inviteItem, certItem] = [fields.bytes('inviteItem'), fields.bytes('certItem')]
  const inviteSeed = fields.seed('inviteSeed')
  const invite = verify('inviteItem', inviteItem).at(-1)
  const cert = verify('certItem', certItem).at(-1)
  if (invite?.kind !== 'invite') throw new Unreadable('its field inviteItem ends in no invite')
  if (!equalBytes(crypto.publicKeyOf(inviteSeed), bytesOf(invite.inviteKey)))
    throw new Unreadable('its inviteSeed is not that of its invite')
  if (cert?.kind !== 'clusterCert' || cert.invite !== invite.id)
    throw new Unreadable('its field certItem ends in no certificate by its invite')
  const { clusterKey, name } = cert
  const { replaces } = invite
  return { kind: 'pending', inviteItem, inviteSeed, certItem, cluster: name, clusterKey, replaces }
}

/** The seats: one on each line, the seed of its administrator's key and its item. */
function readSeats(fields: SecretFields, verify: Verify, crypto: Crypto): readonly SharedSeat[] {
  const lines = fields.lines('seats')
  if (lines.length > SECRET_SEATS_MAX) throw new Unreadable(`it has more than ${SECRET_SEATS_MAX} seats`)
  return lines.map((line) => {
    const [adminSeed, seatItem] = line.split(' ').map(fromBase64)
    if (adminSeed?.length !== SEED_BYTES || seatItem === undefined)
      throw new Unreadable('a line of its seats is malformed')
    const seat = verify('seats', seatItem).at(-1)
    if (seat?.kind !== 'seat' || !equalBytes(crypto.publicKeyOf(adminSeed), bytesOf(seat.adminKey)))
      throw new Unreadable('a seed of its seats is not that of its seat')
    return { id: seat.id, adminSeed, seatItem }
  })
}

/** The roots: k as one byte, and the keys. */
function rootsOf(bytes: Uint8Array, crypto: Crypto): MeshRoots {
  const keys = Array.from({ length: Math.floor((bytes.length - 1) / SEED_BYTES) }, (_, at) =>
    bytes.slice(1 + at * SEED_BYTES, 1 + (at + 1) * SEED_BYTES)
  )
  try {
    if (bytes.length !== 1 + keys.length * SEED_BYTES) throw new RangeError('the length is wrong')
    return meshRoots(crypto, bytes[0] ?? 0, keys)
  } catch {
    throw new Unreadable('its roots are not those of a mesh')
  }
}

function joined(parts: readonly Uint8Array[]): Uint8Array {
  const bytes = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0))
  let end = 0
  for (const part of parts) {
    bytes.set(part, end)
    end += part.length
  }
  return bytes
}

/** Decodes base64; undefined when the value is no text, is too long or is no base64. */
function fromBase64(value: unknown): Uint8Array | undefined {
  if (typeof value !== 'string' || value.length > FIELD_CHARACTERS_MAX) return undefined
  try {
    return Uint8Array.from(atob(value), (character) => character.charCodeAt(0))
  } catch {
    return undefined // not base64
  }
}

/** In parts, because the bytes of one part become arguments of one call. */
function toBase64(bytes: Uint8Array): string {
  let text = ''
  for (let at = 0; at < bytes.length; at += 8192)
    text += String.fromCharCode(...bytes.subarray(at, at + 8192))
  return btoa(text)
}
