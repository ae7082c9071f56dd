// Who this agent is and which mesh it belongs to: everything that cannot be had back from peers. Two copies on disk, each
// whole or absent. Texts about it never quote it.
import { createHash } from 'node:crypto'
import { z } from 'zod'
import { StoreError } from './errors.ts'

export const IDENTITY_VERSION = 1

const base64 = z.string().regex(/^[A-Za-z0-9+/]*={0,2}$/)
const key32 = z.string().regex(/^[A-Za-z0-9+/]{43}=$/)

/** Strict: a field that this program does not know must not be lost when it saves. New fields are optional, or a new version. */
const identitySchema = z.strictObject({
  /** Ed25519 seed of the agent: its PeerId. 32 bytes. */
  nodeSeed: key32,
  /** Curve25519. 32 bytes. */
  wireguardPrivateKey: key32,
  /** Ed25519 seed of the cluster key; it signs the certificates of this cluster's agents. */
  clusterSeed: key32.optional(),
  /** Ed25519 seed of the mesh root; only where `meshctl init` ran. */
  rootSeed: key32.optional(),
  /** Base64 of 32 bytes. */
  meshId: key32.optional(),
  cluster: z.string().max(63).optional(),
  /** Encoded Chain down to the own AGENT certificate. */
  chain: base64.optional(),
  /** Encoded Chain down to the CLUSTER certificate, from which agent certificates are renewed. */
  clusterChain: base64.optional(),
  podPrefixes: z.array(z.string().max(64)).max(64).optional(),
  servicePrefixes: z.array(z.string().max(64)).max(64).optional(),
  /** Multiaddrs ending in /p2p/<PeerId>, from the token. */
  bootstrap: z.array(z.string().max(512)).max(64).optional(),
  /** SHA-256 of the token that was redeemed and that no member has accepted yet: a second try must not make a second key. */
  pendingToken: key32.optional(),
  joinedToken: key32.optional(),
  /** Invites issued here, so that no two are given the same prefixes. */
  invites: z
    .array(z.strictObject({ cluster: z.string(), prefixes: z.array(z.string()), expiresMs: z.number() }))
    .max(1024)
    .optional(),
  joinedBy: z.enum(['init', 'token']).optional(),
  /** Unix milliseconds. */
  joinedAtMs: z.number().int().nonnegative().optional()
})

export type Identity = Readonly<z.infer<typeof identitySchema>>

type IdentityFile =
  | { readonly kind: 'ok'; readonly identity: Identity }
  | { readonly kind: 'newer'; readonly version: number }
  | { readonly kind: 'corrupt'; readonly reason: string }

const envelopeSchema = z.looseObject({ version: z.number().int().positive() })
const fileSchema = z.strictObject({ version: z.number(), checksum: z.string(), identity: z.unknown() })

/** Errors: StoreError IDENTITY_INVALID naming the fields, for a value that this version cannot keep. */
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

export function decodeIdentity(text: string): IdentityFile {
  const json = parseJson(text)
  const envelope = envelopeSchema.safeParse(json)
  if (!envelope.success) return { kind: 'corrupt', reason: 'it is not a JSON object with a version' }
  if (envelope.data.version > IDENTITY_VERSION) return { kind: 'newer', version: envelope.data.version }
  const file = fileSchema.safeParse(json)
  if (!file.success) return { kind: 'corrupt', reason: `wrong ${fieldsOf(file.error)}` }
  if (checksum(JSON.stringify(file.data.identity)) !== file.data.checksum) {
    return { kind: 'corrupt', reason: 'its checksum does not match' }
  }
  const identity = identitySchema.safeParse(file.data.identity)
  if (!identity.success) return { kind: 'corrupt', reason: `wrong ${fieldsOf(identity.error)}` }
  return { kind: 'ok', identity: identity.data }
}

/** JSON.parse quotes its input in its errors: keep only the fact. */
function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

/** Names of fields only; zod's own texts may quote values. */
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
