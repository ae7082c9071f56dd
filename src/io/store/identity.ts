// The identity file: the keys of this agent and its membership in a mesh, which cannot be pulled from peers. This file
// defines its schema and its encoding: JSON with a version and a checksum. app/identity makes and changes identities;
// store.ts keeps two copies. The content is secret, so errors name fields and never quote values.
import { createHash } from 'node:crypto'
import * as z from 'zod'
import { StoreError } from './errors.ts'

/**
 * The version of the file's format. A file of a higher version is refused (STORE_NEWER). One of version 1 has the key
 * of WireGuard in another form and counts as damaged (IDENTITY_CORRUPT).
 */
export const IDENTITY_VERSION = 2

const base64 = z.string().regex(/^[A-Za-z0-9+/]*={0,2}$/)
// 32 bytes in base64.
const key32 = z.string().regex(/^[A-Za-z0-9+/]{43}=$/)

/**
 * The schema is strict: an unknown field makes a file corrupt, because it would be lost when this program saves the
 * file. A new field is therefore optional, or the version is raised. Before an agent has joined, only the first two
 * fields are set.
 */
const identitySchema = z.strictObject({
  /** Ed25519 seed of the agent's key, from which its PeerId follows; 32 bytes. */
  nodeSeed: key32,
  /** Ed25519 seed of the tunnel key, from which the key of WireGuard follows; 32 bytes. */
  tunnelSeed: key32,
  /** Ed25519 seed of the cluster key; it signs the certificates of this cluster's agents. */
  clusterSeed: key32.optional(),
  /** Ed25519 seed of the mesh root; only on the agent where `meshctl init` ran. */
  rootSeed: key32.optional(),
  /** The hash that names the mesh; 32 bytes. */
  meshId: key32.optional(),
  cluster: z.string().max(63).optional(),
  /** Encoded Chain down to this agent's AGENT certificate. */
  chain: base64.optional(),
  /** Encoded Chain down to the CLUSTER certificate, from which agent certificates are renewed. */
  clusterChain: base64.optional(),
  podPrefixes: z.array(z.string().max(64)).max(64).optional(),
  servicePrefixes: z.array(z.string().max(64)).max(64).optional(),
  /** Multiaddrs ending in /p2p/<PeerId>, from the token. */
  bootstrap: z.array(z.string().max(512)).max(64).optional(),
  /**
   * SHA-256 of a redeemed token that no member has accepted yet. A second try with it uses the cluster key of the first
   * one.
   */
  pendingToken: key32.optional(),
  /** SHA-256 of the token by which this agent became a member, so that joining again with it changes nothing. */
  joinedToken: key32.optional(),
  /**
   * Invites that this agent has issued, so that no two of them get the same prefixes. `expiresMs` is in Unix
   * milliseconds.
   */
  invites: z
    .array(z.strictObject({ cluster: z.string(), prefixes: z.array(z.string()), expiresMs: z.number() }))
    .max(1024)
    .optional(),
  joinedBy: z.enum(['init', 'token']).optional(),
  /** Unix milliseconds. */
  joinedAtMs: z.number().int().nonnegative().optional()
})

/** An identity in memory: the fields of the schema; keys and chains are text in base64. */
export type Identity = Readonly<z.infer<typeof identitySchema>>

/** The result of reading a file. `newer` has a higher version than this program knows; `reason` quotes no values. */
type IdentityFile =
  | { readonly kind: 'ok'; readonly identity: Identity }
  | { readonly kind: 'newer'; readonly version: number }
  | { readonly kind: 'corrupt'; readonly reason: string }

// The version is read first and by itself, so that a file of a later version is recognised whatever else it holds.
const envelopeSchema = z.looseObject({ version: z.number().int().positive() })
const OLDER = 'an earlier version of this program wrote it, with keys in a form that is not used any more'
const fileSchema = z.strictObject({ version: z.number(), checksum: z.string(), identity: z.unknown() })

/**
 * Encodes an identity as the text of its file. Throws StoreError IDENTITY_INVALID, which names the wrong fields, when
 * the value does not match the schema and could not be read again. `path` is only for that error.
 */
export function encodeIdentity(identity: Identity, path: string): string {
  const parsed = identitySchema.safeParse(identity)
  if (!parsed.success) {
    throw new StoreError('IDENTITY_INVALID', `identity not saved: wrong ${fieldsOf(parsed.error)}`, {
      path,
      fix: 'this is a fault of the program; please report it with its version'
    })
  }
  const body = JSON.stringify(parsed.data)
  const file = { version: IDENTITY_VERSION, checksum: checksum(body), identity: parsed.data }
  return `${JSON.stringify(file, undefined, 2)}\n`
}

/** Decodes the text of an identity file. Never throws. */
export function decodeIdentity(text: string): IdentityFile {
  const json = parseJson(text)
  const envelope = envelopeSchema.safeParse(json)
  if (!envelope.success) return { kind: 'corrupt', reason: 'it is not a JSON object with a version' }
  if (envelope.data.version > IDENTITY_VERSION) return { kind: 'newer', version: envelope.data.version }
  if (envelope.data.version < IDENTITY_VERSION) return { kind: 'corrupt', reason: OLDER }
  const file = fileSchema.safeParse(json)
  if (!file.success) return { kind: 'corrupt', reason: `wrong ${fieldsOf(file.error)}` }
  if (checksum(JSON.stringify(file.data.identity)) !== file.data.checksum) {
    return { kind: 'corrupt', reason: 'its checksum does not match' }
  }
  const identity = identitySchema.safeParse(file.data.identity)
  if (!identity.success) return { kind: 'corrupt', reason: `wrong ${fieldsOf(identity.error)}` }
  return { kind: 'ok', identity: identity.data }
}

/**
 * Parses JSON; undefined when it is malformed. The error is dropped, because JSON.parse quotes its input in the
 * message.
 */
function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

/** Returns the names of the wrong fields. The texts of zod are not used, because they may quote values. */
function fieldsOf(error: z.ZodError): string {
  const names = error.issues.map((issue) =>
    issue.code === 'unrecognized_keys'
      ? `unknown field ${issue.keys.join(', ')}`
      : `field ${issue.path.join('.')}`
  )
  return [...new Set(names)].join(', ')
}

function checksum(body: string): string {
  return createHash('sha256').update(body).digest('hex')
}
