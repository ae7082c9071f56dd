// Seals a secret with a passphrase: scrypt (RFC 7914) makes the key, AES-256-GCM (NIST SP 800-38D) encrypts. The result is
// JSON, so that a person can see what the file is, and with which parameters it was made.
import { createCipheriv, createDecipheriv, randomBytes, scrypt } from 'node:crypto'
import { z } from 'zod'

/** N = 2^17 takes about half a second and 128 MiB, once for each try of a thief. */
const PARAMETERS = { N: 131_072, r: 8, p: 1 } as const
const KEY_BYTES = 32
const SALT_BYTES = 16
const NONCE_BYTES = 12
const TAG_BYTES = 16

const sealedSchema = z.strictObject({
  scrypt: z.strictObject({
    N: z.number().int().min(2).max(1_048_576),
    r: z.number().int().min(1).max(32),
    p: z.number().int().min(1).max(16)
  }),
  salt: z.base64().max(64),
  nonce: z.base64().max(64),
  data: z.base64().max(64 * 1024)
})

/** What `seal` returns; all values but `scrypt` are base64. */
type Sealed = z.infer<typeof sealedSchema>

/** Encrypts `secret`. `label` is authenticated too: a file of another kind does not open. */
export async function seal(secret: Uint8Array, passphrase: string, label: string): Promise<Sealed> {
  const [salt, nonce] = [randomBytes(SALT_BYTES), randomBytes(NONCE_BYTES)]
  const cipher = createCipheriv('aes-256-gcm', await keyOf(passphrase, salt, PARAMETERS), nonce)
  cipher.setAAD(Buffer.from(label))
  const data = Buffer.concat([cipher.update(secret), cipher.final(), cipher.getAuthTag()])
  return {
    scrypt: { ...PARAMETERS },
    salt: salt.toString('base64'),
    nonce: nonce.toString('base64'),
    data: data.toString('base64')
  }
}

/** Decrypts. undefined: the passphrase is wrong, or the content is damaged. */
export async function unseal(
  sealed: unknown,
  passphrase: string,
  label: string
): Promise<Uint8Array | undefined> {
  const parsed = sealedSchema.safeParse(sealed)
  if (!parsed.success) return undefined
  const { scrypt: parameters, salt, nonce, data } = parsed.data
  const bytes = Buffer.from(data, 'base64')
  try {
    const key = await keyOf(passphrase, Buffer.from(salt, 'base64'), parameters)
    const decipher = createDecipheriv('aes-256-gcm', key, Buffer.from(nonce, 'base64'), {
      authTagLength: TAG_BYTES
    })
    decipher.setAAD(Buffer.from(label))
    decipher.setAuthTag(bytes.subarray(bytes.length - TAG_BYTES))
    return new Uint8Array(
      Buffer.concat([decipher.update(bytes.subarray(0, bytes.length - TAG_BYTES)), decipher.final()])
    )
  } catch {
    return undefined // the tag does not match, or the parameters are impossible
  }
}

function keyOf(
  passphrase: string,
  salt: Uint8Array,
  { N, r, p }: { readonly N: number; readonly r: number; readonly p: number }
): Promise<Buffer> {
  return new Promise((resolve, reject) =>
    scrypt(passphrase.normalize('NFKC'), salt, KEY_BYTES, { N, r, p, maxmem: 256 * N * r }, (error, key) =>
      error === null ? resolve(key) : reject(error)
    )
  )
}
