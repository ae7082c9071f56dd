// The file of `meshctl backup create`: a membership, its administrators' seats, its open invites and the trust set, under
// a passphrase. It is JSON, so that a person can see what the file is of; everything but that is encrypted.
//
//   { kind, version, cluster, meshId, peerId, made, sealed: { scrypt, salt, nonce, data }, checksum }
//
// Invariants
//   1. A file of which any byte was changed does not open. The checksum (SHA-256) tells damage from a wrong passphrase;
//      against a forger, the fields outside of `sealed` are authenticated with it (AES-GCM).
//   2. It has no key of the agent that made it and no root key: two agents restored from one file have two PeerIds, and
//      a thief of a backup can sign nothing as the roots.
//   3. Errors quote nothing of the content.
import { createHash } from 'node:crypto'
import { promisify } from 'node:util'
import { gunzip, gzip } from 'node:zlib'
import * as z from 'zod'
import { BACKUP_BYTES_MAX } from '../../api/requests.ts'
import { seal, unseal, type ScryptParameters } from '../../io/crypto/passphrase-seal.ts'
import { parseSaved, type SavedIdentity } from '../../io/store/identity.ts'
import { AppError } from '../observe/errors.ts'
import { base64, bytes } from './encoding.ts'

/** A backup as an agent makes it, and as one that is restored reads it. All of it is secret but the header. */
export interface Backup {
  readonly header: BackupHeader
  readonly identity: SavedIdentity
  /** The trust set: an encoded TrustItem for each statement. */
  readonly trust: readonly Uint8Array[]
}

/** What a person can read in the file. */
export interface BackupHeader {
  readonly cluster: string
  /** The text of the mesh id. */
  readonly meshId: string
  /** The PeerId of the agent that made the backup. */
  readonly peerId: string
  /** RFC 3339. */
  readonly made: string
}

const KIND = 'rhizome backup'
/** A file of a higher version is refused (BACKUP_NEWER). */
const VERSION = 1
/** Bytes of the content after decompression. 2,048 clusters make about 4 MB. */
const CONTENT_BYTES_MAX = 256 * 1024 * 1024

const headerSchema = z.object({
  cluster: z.string().max(63),
  meshId: z.string().max(100),
  peerId: z.string().max(100),
  made: z.string().max(40)
})
const fileSchema = z.strictObject({
  kind: z.literal(KIND),
  version: z.literal(VERSION),
  ...headerSchema.shape,
  sealed: z.unknown(),
  checksum: z.string()
})
// Kind and version are read first and by themselves, so that a file of a later version is recognised whatever it holds.
const envelopeSchema = z.looseObject({ kind: z.string(), version: z.number().optional() })
const contentSchema = z.strictObject({ identity: z.unknown(), trust: z.array(z.string()) })

/** Encrypts a backup. Only tests give `parameters`. Errors: AppError BACKUP_TOO_LARGE. */
export async function sealBackup(
  backup: Backup,
  passphrase: string,
  parameters?: ScryptParameters
): Promise<string> {
  const { header, identity, trust } = backup
  const content = JSON.stringify({ identity, trust: trust.map(base64) })
  const sealed = await seal(await promisify(gzip)(content), passphrase, labelOf(header), parameters)
  const text = format({ kind: KIND, version: VERSION, ...headerSchema.parse(header), sealed })
  if (text.length <= BACKUP_BYTES_MAX) return text
  throw new AppError(
    'BACKUP_TOO_LARGE',
    `the trust set of this mesh makes a backup of more than ${BACKUP_BYTES_MAX / 1024 / 1024} MiB`,
    'read `meshctl trust status` for an administrator that has flooded the mesh, and remove its seat'
  )
}

/**
 * Decrypts a backup. Errors: AppError BACKUP_FOREIGN for another file; BACKUP_NEWER for one of a later version;
 * BACKUP_DAMAGED for one that was cut short or changed; PASSPHRASE_WRONG.
 */
export async function openBackup(text: string, passphrase: string): Promise<Backup> {
  const file = checkedFile(text.replaceAll('\r\n', '\n'))
  const header = headerSchema.parse(file)
  const packed = await unseal(file.sealed, passphrase, labelOf(header), BACKUP_BYTES_MAX)
  if (packed === undefined)
    throw new AppError('PASSPHRASE_WRONG', 'the passphrase does not open the backup', 'try again')
  const content = contentSchema.safeParse(parseJson(await unpacked(packed)))
  const identity = content.success ? parseSaved(content.data.identity) : undefined
  if (!content.success || identity === undefined) throw damaged('its content is not that of a backup')
  return { header, identity, trust: content.data.trust.map(bytes) }
}

/** Parses the file and compares its checksum. Errors: those of `openBackup` but PASSPHRASE_WRONG. */
function checkedFile(text: string): z.infer<typeof fileSchema> {
  const json = parseJson(text)
  const envelope = envelopeSchema.safeParse(json)
  if (!envelope.success) {
    // A file that was cut short is no JSON any more, and still begins as a backup does.
    if (
      text
        .trimStart()
        .replaceAll(/\s/g, '')
        .startsWith(`{"kind":"${KIND.replace(' ', '')}"`)
    )
      throw damaged('it was cut short or changed')
    throw foreign('this is no file of `meshctl backup create`')
  }
  const { kind, version = 0 } = envelope.data
  if (kind.startsWith('rhizome root keys'))
    throw foreign('this is a file of `meshctl root export`, not a backup')
  if (kind !== KIND) throw foreign('this is no file of `meshctl backup create`')
  if (version > VERSION)
    throw new AppError(
      'BACKUP_NEWER',
      `the backup has the version ${version}, and this agent reads up to ${VERSION}`,
      'upgrade meshd on this host, then restore again'
    )
  const file = fileSchema.safeParse(json)
  // The text is compared, too: of two texts with one meaning, only one was written by this program.
  if (!file.success || format(withoutChecksum(file.data)) !== text)
    throw damaged('its checksum does not match: it was cut short or changed')
  return file.data
}

/** The text of a file: its fields in their order, and the checksum of these fields. */
function format(fields: Omit<z.infer<typeof fileSchema>, 'checksum'>): string {
  const checksum = createHash('sha256').update(JSON.stringify(fields)).digest('hex')
  return `${JSON.stringify({ ...fields, checksum }, undefined, 2)}\n`
}

function withoutChecksum(file: z.infer<typeof fileSchema>): Omit<z.infer<typeof fileSchema>, 'checksum'> {
  const { checksum: _, ...fields } = file
  return fields
}

/** What is authenticated beside the content. */
function labelOf(header: BackupHeader): string {
  return JSON.stringify({ kind: KIND, version: VERSION, ...headerSchema.parse(header) })
}

/** Decompresses; '' when that is not possible, which is no JSON. */
async function unpacked(packed: Uint8Array): Promise<string> {
  try {
    const content = await promisify(gunzip)(packed, { maxOutputLength: CONTENT_BYTES_MAX })
    return content.toString('utf8')
  } catch {
    return ''
  }
}

function damaged(what: string): AppError {
  return new AppError('BACKUP_DAMAGED', `the backup is damaged: ${what}`, 'use another copy of the file')
}

function foreign(what: string): AppError {
  return new AppError(
    'BACKUP_FOREIGN',
    what,
    'name the file that `meshctl backup create` wrote; root keys are read by `meshctl root import`'
  )
}

/** Parses JSON; undefined when it is malformed. The error is dropped, because it would quote the file. */
function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined // not JSON
  }
}
