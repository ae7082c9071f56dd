// The identity file: the keys of this agent and its membership in a mesh, which cannot be pulled from peers. This file
// defines its schema and its encoding: JSON with a version and a checksum. app/identity makes and changes identities;
// store.ts keeps two copies. The content is secret, so errors name fields and never quote values.
import { createHash } from 'node:crypto'
import * as z from 'zod'
import { StoreError } from './errors.ts'

/**
 * The version of the file's format. A file of a higher version is refused (STORE_NEWER). One of version 1 has the key
 * of WireGuard and the membership in another form and counts as damaged (IDENTITY_CORRUPT).
 */
export const IDENTITY_VERSION = 2

/** Bytes of an encoded TrustItem are at most 64 KiB; base64 takes four characters for three bytes. */
const ITEM_CHARACTERS_MAX = 90_000
/** Seats that one agent administers: 64 root seats, and some children. */
const SEATS_MAX = 128
/** A mesh has at most five roots. */
const ROOTS_MAX = 5
/** Backups of backups that are remembered; each restore adds one. */
const BACKED_UP_BY_MAX = 16

const base64 = z.string().regex(/^[A-Za-z0-9+/]*={0,2}$/)
// 32 bytes in base64.
const key32 = z.string().regex(/^[A-Za-z0-9+/]{43}=$/)
/** An encoded TrustItem. */
const item = base64.min(1).max(ITEM_CHARACTERS_MAX)
/** The id of a statement: 64 hexadecimal digits. */
const statementId = z.string().regex(/^[0-9a-f]{64}$/)

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
  /** The roots of the mesh, of which `k` sign. */
  mesh: z
    .strictObject({
      k: z.number().int().min(1).max(ROOTS_MAX),
      /** Raw Ed25519 public keys, sorted. */
      rootKeys: z.array(key32).min(1).max(ROOTS_MAX)
    })
    .optional(),
  cluster: z.string().max(63).optional(),
  /** Ed25519 seed of the cluster key; it certifies this cluster's agents and signs admissions. */
  clusterSeed: key32.optional(),
  /** TrustItem down to the admission of this cluster, or its founding certificate; absent before the admission. */
  clusterItem: item.optional(),
  /** The prefixes of the invite or the founding certificate. */
  podPrefixes: z.array(z.string().max(64)).max(64).optional(),
  servicePrefixes: z.array(z.string().max(64)).max(64).optional(),
  /**
   * The real prefixes of a cluster whose addresses are translated, each with the prefix of the mesh that stands for it
   * (core/model/translation.ts); absent for a cluster whose prefixes in the mesh are its real ones.
   */
  realPrefixes: z
    .array(
      z.strictObject({
        kind: z.enum(['pod', 'service']),
        real: z.string().max(64),
        virtual: z.string().max(64).optional()
      })
    )
    .max(128)
    .optional(),
  /** Multiaddrs ending in /p2p/<PeerId>, from the token. */
  bootstrap: z.array(z.string().max(512)).max(64).optional(),
  /** A token that was redeemed, whose key no member has admitted yet. It is on disk before the first knock. */
  pending: z
    .strictObject({
      /** SHA-256 of the token, so that a second try with it uses the same key; absent for a key from the Secret. */
      token: key32.optional(),
      /** TrustItem of the invite, and the secret of the token. */
      inviteItem: item,
      inviteSeed: key32,
      /** TrustItem down to the cluster certificate. */
      certItem: item
    })
    .optional(),
  /** Ed25519 seeds of roots; removed once they were exported. */
  rootSeeds: z.array(key32).max(ROOTS_MAX).optional(),
  rootExported: z.boolean().optional(),
  /** True when a file holds the roots, although their seeds may be here, too; of this agent only, in no Secret. */
  rootInFile: z.boolean().optional(),
  /** Public keys of the roots whose seeds are in a file each (`meshctl root export --share`); of this agent only. */
  rootsInFiles: z.array(key32).max(ROOTS_MAX).optional(),
  /** The administrators of this agent: the seed of each key, and the TrustItem of its seat. */
  seats: z
    .array(z.strictObject({ adminSeed: key32, seatItem: item }))
    .max(SEATS_MAX)
    .optional(),
  /** The key of this agent as an administrator, before and after a seat was created for it. */
  adminSeed: key32.optional(),
  /** The generation of this agent's certificate, and when this agent took it, in Unix milliseconds. */
  generation: z.number().int().nonnegative().optional(),
  generationAtMs: z.number().int().nonnegative().optional(),
  /** What the latest certificate of this agent says; a certificate that says something else needs a higher generation. */
  certified: z
    .strictObject({ node: z.string().max(253), roles: z.array(z.string().max(32)).max(8) })
    .optional(),
  /** SHA-256 of the token by which this agent became a member, so that joining again with it changes nothing. */
  joinedToken: key32.optional(),
  /**
   * Invites that this agent has issued, so that no two of them get the same prefixes, and so that they can be cancelled.
   * `expiresMs` is in Unix milliseconds, `item` a TrustItem.
   */
  invites: z
    .array(
      z.strictObject({
        id: statementId,
        cluster: z.string(),
        prefixes: z.array(z.string()),
        expiresMs: z.number(),
        item,
        /** The cluster key whose place the invited cluster takes, 64 hexadecimal digits. */
        replaces: statementId.optional(),
        /** The MeshInvite for which it was made: "<namespace>/<uid>". */
        meshInvite: z.string().max(320).optional()
      })
    )
    .max(1024)
    .optional(),
  /**
   * The agents that made the backups from which this one comes, with the cluster key that they had then. They may still run,
   * so a leave of this one must not end their cluster. The newest come last.
   */
  backedUpBy: z
    .array(z.strictObject({ peerId: z.string().min(1).max(128), clusterKey: statementId }))
    .max(BACKED_UP_BY_MAX)
    .optional(),
  /** `gateway`: with the token of one more gateway, so the cluster has had others. */
  joinedBy: z.enum(['init', 'token', 'gateway']).optional(),
  /** Unix milliseconds. */
  joinedAtMs: z.number().int().nonnegative().optional()
})

/** An identity in memory: the fields of the schema; keys and items are text in base64. */
export type Identity = Readonly<z.infer<typeof identitySchema>>

/**
 * What a backup holds of an identity: the membership, seats and open invites. It has no key of the agent itself, so an
 * agent that is restored is not a copy of another one (docs/trust.md); and no root key, because those are in files of
 * their own.
 */
const savedSchema = identitySchema.omit({
  nodeSeed: true,
  tunnelSeed: true,
  rootSeeds: true,
  pending: true,
  certified: true
})

/** The part of an identity that a backup holds; as secret as the identity. */
export type SavedIdentity = Readonly<z.infer<typeof savedSchema>>

/**
 * Returns the identity with one more agent that made a backup of it. The oldest one is forgotten when there are too many.
 */
export function withBackedUpBy(
  identity: Identity,
  by: NonNullable<Identity['backedUpBy']>[number]
): Identity {
  const others = (identity.backedUpBy ?? []).filter(({ peerId }) => peerId !== by.peerId)
  return { ...identity, backedUpBy: [...others, by].slice(-BACKED_UP_BY_MAX) }
}

/** Returns the part of an identity that a backup holds. */
export function savedPart(identity: Identity): SavedIdentity {
  return z.object(savedSchema.shape).parse(identity)
}

/** Reads that part. undefined: a field is wrong or unknown. */
export function parseSaved(value: unknown): SavedIdentity | undefined {
  const parsed = savedSchema.safeParse(value)
  return parsed.success ? parsed.data : undefined
}

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
