// The root keys of a mesh. They are its identity: the id of the mesh is the hash of the keys and of the number that
// must sign, and neither ever changes.
import { compareBytes, utf8 } from '../../model/bytes.ts'
import type { Crypto } from '../../model/crypto.ts'
import { FORM_RULES } from './form-rules.ts'

/** The roots of one mesh. */
export interface MeshRoots {
  /** SHA-256 over a domain tag, k as one byte, and the keys; 32 bytes. */
  readonly meshId: Uint8Array
  /** How many of the roots must sign, from 1 to the number of keys. */
  readonly k: number
  /** Raw Ed25519 public keys of 32 bytes, sorted; at most ROOTS_MAX. */
  readonly keys: readonly Uint8Array[]
}

/** More root keys are not kept safe by more people. */
const ROOTS_MAX = 5
const MESH_DOMAIN = utf8('rhizome/mesh/2\0')

/**
 * Returns the roots of a mesh. Throws a RangeError when the keys are not 1 to ROOTS_MAX, each once and passing F2, or
 * when k does not lie between 1 and their number: a caller that reads a token or a file checks first.
 */
export function meshRoots(crypto: Crypto, k: number, unsorted: readonly Uint8Array[]): MeshRoots {
  const keys = unsorted.toSorted(compareBytes)
  const repeated = keys.some((key, at) => at > 0 && compareBytes(keys[at - 1] ?? key, key) === 0)
  if (keys.length === 0 || keys.length > ROOTS_MAX || repeated)
    throw new RangeError(`a mesh has 1 to ${ROOTS_MAX} different root keys`)
  if (keys.some((key) => FORM_RULES.F2key(key) !== undefined)) throw new RangeError('a root key is malformed')
  if (!Number.isInteger(k) || k < 1 || k > keys.length)
    throw new RangeError(`${k} of ${keys.length} roots cannot sign`)
  return { meshId: crypto.sha256(MESH_DOMAIN, Uint8Array.of(k), ...keys), k, keys }
}
