// Seals a secret with a passphrase: scrypt (RFC 7914) makes the key, AES-256-GCM (NIST SP 800-38D) encrypts. The result is
// JSON, so that a person can see what the file is, and with which parameters it was made.
// Invariants
//   1. Each sealed value has one text: base64 that decodes to the same bytes but is written differently is refused. So a
//      file in which any byte was changed does not open.
//   2. A file decides on the cost of opening it only within SCRYPT_MAX, because it may come from a stranger.
import { createCipheriv, createDecipheriv, randomBytes, scrypt } from 'node:crypto'
import * as z from 'zod'

/** The cost of one try: scrypt takes 128 · N · r bytes of memory, p times one after the other. */
export interface ScryptParameters {
  readonly N: number
  readonly r: number
  readonly p: number
}

/** N = 2^17 takes about half a second and 128 MiB, once for each try of a thief. */
const PARAMETERS: ScryptParameters = { N: 131_072, r: 8, p: 1 }
/** Twice the cost of PARAMETERS, and 256 MiB: room for later versions. */
const SCRYPT_MAX: ScryptParameters = { N: 262_144, r: 8, p: 2 }
const KEY_BYTES = 32
const SALT_BYTES = 16
const NONCE_BYTES = 12
const TAG_BYTES = 16
/** Base64 characters of the encrypted part, unless the caller allows more. A few keys take less than 1 KiB. */
const DATA_CHARACTERS_MAX = 64 * 1024

const sealedSchema = z.strictObject({
  scrypt: z.strictObject({
    N: z.number().int().min(2).max(SCRYPT_MAX.N),
    r: z.number().int().min(1).max(SCRYPT_MAX.r),
    p: z.number().int().min(1).max(SCRYPT_MAX.p)
  }),
  salt: z.string().max(64),
  nonce: z.string().max(64),
  data: z.string()
})

/** What `seal` returns; all values but `scrypt` are base64. */
type Sealed = z.infer<typeof sealedSchema>

/**
 * Encrypts `secret`. `label` is authenticated too: a file of another kind does not open. Only tests give other
 * `parameters`, which cost less.
 */
export async function seal(
  secret: Uint8Array,
  passphrase: string,
  label: string,
  parameters: ScryptParameters = PARAMETERS
): Promise<Sealed> {
  const [salt, nonce] = [randomBytes(SALT_BYTES), randomBytes(NONCE_BYTES)]
  const cipher = createCipheriv('aes-256-gcm', await keyOf(passphrase, salt, parameters), nonce)
  cipher.setAAD(Buffer.from(label))
  const data = Buffer.concat([cipher.update(secret), cipher.final(), cipher.getAuthTag()])
  return {
    scrypt: { ...parameters },
    salt: salt.toString('base64'),
    nonce: nonce.toString('base64'),
    data: data.toString('base64')
  }
}

/**
 * Decrypts. undefined: the passphrase is wrong, the content is damaged, or its encrypted part is longer than
 * `charactersMax`.
 */
export async function unseal(
  sealed: unknown,
  passphrase: string,
  label: string,
  charactersMax: number = DATA_CHARACTERS_MAX
): Promise<Uint8Array | undefined> {
  const parsed = sealedSchema.safeParse(sealed)
  if (!parsed.success || parsed.data.data.length > charactersMax) return undefined
  const [salt, nonce, data] = [parsed.data.salt, parsed.data.nonce, parsed.data.data].map(fromBase64)
  if (salt === undefined || nonce === undefined || data === undefined) return undefined
  try {
    const key = await keyOf(passphrase, salt, parsed.data.scrypt)
    const decipher = createDecipheriv('aes-256-gcm', key, nonce, { authTagLength: TAG_BYTES })
    decipher.setAAD(Buffer.from(label))
    decipher.setAuthTag(data.subarray(data.length - TAG_BYTES))
    return new Uint8Array(
      Buffer.concat([decipher.update(data.subarray(0, data.length - TAG_BYTES)), decipher.final()])
    )
  } catch {
    return undefined // the tag does not match, or the parameters are impossible
  }
}

/** Decodes base64; undefined when `base64` would write the same bytes in another way (invariant 1). */
function fromBase64(text: string): Buffer | undefined {
  const bytes = Buffer.from(text, 'base64')
  return bytes.toString('base64') === text ? bytes : undefined
}

function keyOf(passphrase: string, salt: Uint8Array, { N, r, p }: ScryptParameters): Promise<Buffer> {
  return new Promise((resolve, reject) =>
    scrypt(passphrase.normalize('NFKC'), salt, KEY_BYTES, { N, r, p, maxmem: 256 * N * r }, (error, key) =>
      error === null ? resolve(key) : reject(error)
    )
  )
}
