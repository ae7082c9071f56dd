// Signs one more statement onto an item. All functions of this folder make statements through `extend`, so none leaves
// it that another member would refuse for its form. What the statement is worth is decided by the set.
// Invariant: a seed signs and is returned to the caller who gave or made it; it is in no item and in no error.
import { equalBytes } from '../../model/bytes.ts'
import type { Crypto } from '../../model/crypto.ts'
import type { Cidr } from '../../model/values.ts'
import { encodeItem, openItem } from '../set/form.ts'
import { bytesOf, keyId, type KeyId, type StatementId } from '../set/ids.ts'
import type { MeshRoots } from '../set/mesh-roots.ts'
import { compareRanges, type PrefixRange, rangeOf } from '../set/prefix-range.ts'
import { type Signed, type Signers, signStatement } from '../set/signatures.ts'
import type { Draft, PodsAndServices, Refusal } from '../set/statement.ts'

/** What every function here needs: cryptography, and the roots of the mesh. */
export interface AuthorContext {
  readonly crypto: Crypto
  readonly roots: MeshRoots
}

/** A new statement. */
export interface Authored {
  readonly id: StatementId
  /** The encoded TrustItem: everything that the statement stands on, and the statement last. */
  readonly item: Uint8Array
}

/** Prefixes as people write them. */
export interface Prefixes {
  readonly pods: readonly Cidr[]
  readonly services: readonly Cidr[]
}

/**
 * Signs a draft under the last statement of `parent`; `parent` undefined: under the roots. Throws a RangeError that
 * names the field and a fix when the values exceed the parent's rights or are malformed.
 */
export function extend(
  context: AuthorContext,
  parent: Uint8Array | undefined,
  draft: Draft,
  signers: Signers
): Authored {
  const envelopes = parent === undefined ? [] : opened(context, parent).map(({ envelope }) => envelope)
  const { roots } = signers
  const { id, envelope } = signStatement(context, draft, {
    ...signers,
    ...(roots === undefined ? {} : { roots: quorumOf(context, roots) })
  })
  const item = encodeItem([...envelopes, envelope])
  const checked = openItem(context, item)
  if (checked.kind === 'refused') throw new RangeError(textOf(checked))
  return { id, item }
}

/**
 * Of the seeds that a caller holds, those that sign: k, each of another root, the first in the order of the keys. So it
 * does not matter how many an agent holds, in which order, and how often. Fewer than k are returned as they are, and
 * then the item is refused.
 */
function quorumOf({ crypto, roots }: AuthorContext, seeds: readonly Uint8Array[]): readonly Uint8Array[] {
  const keys = seeds.map((seed) => crypto.publicKeyOf(seed))
  return roots.keys
    .flatMap((root) => seeds.find((_, at) => equalBytes(root, keys[at] ?? new Uint8Array(0))) ?? [])
    .slice(0, roots.k)
}

/** The statements of an item that this agent made or checked before. Throws a RangeError when it does not verify. */
export function opened(context: AuthorContext, item: Uint8Array): readonly Signed[] {
  const checked = openItem(context, item)
  if (checked.kind === 'refused') throw new RangeError(textOf(checked))
  return checked.statements
}

/** The last statement of an item, which must be of this kind. Throws a RangeError when it is another one. */
export function lastOf<K extends Signed['statement']['kind']>(
  context: AuthorContext,
  item: Uint8Array,
  kind: K
): Extract<Signed['statement'], { kind: K }> {
  const last = opened(context, item).at(-1)?.statement
  if (last === undefined || !isOfKind(last, kind))
    throw new RangeError(`the item ends in a ${last?.kind}, but a ${kind} is needed`)
  return last
}

/** Throws a RangeError when the seed is not that of the key. `what` names the seed: "adminSeed". */
export function checkSeed({ crypto }: AuthorContext, seed: Uint8Array, key: KeyId, what: string): void {
  if (equalBytes(crypto.publicKeyOf(seed), bytesOf(key))) return
  throw new RangeError(`${what}: the seed is not that of the key ${key.slice(0, 16)}…, so it cannot sign`)
}

/** The id of a seed's public key. */
export function keyOfSeed({ crypto }: Pick<AuthorContext, 'crypto'>, seed: Uint8Array): KeyId {
  return keyId(crypto.publicKeyOf(seed))
}

/** Prefixes as statements hold them, sorted. */
export function rangesOf(cidrs: readonly Cidr[]): readonly PrefixRange[] {
  return cidrs.map(rangeOf).sort(compareRanges)
}

/** Pods and services as statements hold them. */
export function podsAndServices({ pods, services }: Prefixes): PodsAndServices {
  return { pods: rangesOf(pods), services: rangesOf(services) }
}

/** Whether a statement is of this kind. */
function isOfKind<K extends Signed['statement']['kind']>(
  statement: Signed['statement'],
  kind: K
): statement is Extract<Signed['statement'], { kind: K }> {
  return statement.kind === kind
}

/** A refusal as the message of an error. */
function textOf({ statement, field, reason, fix }: Refusal): string {
  const where = field === '' ? statement : `${statement}: ${field}`
  return `${where}: ${reason}; ${fix}`
}
