// Converts values of the identity file: bytes to and from base64, times to the seconds of certificates, and texts to
// cluster names, which are DNS labels.
import { parseClusterName } from '../../core/model/identity.ts'
import type { ClusterName } from '../../core/model/values.ts'
import { AppError } from '../observe/errors.ts'

/**
 * Returns the bytes of standard base64 text. The schema of the identity file (io/store/identity.ts) has checked the
 * alphabet.
 */
export function bytes(text: string): Uint8Array {
  return new Uint8Array(Buffer.from(text, 'base64'))
}

/** Returns standard base64 with padding, the form in which the identity file keeps keys, chains and hashes. */
export function base64(raw: Uint8Array): string {
  return Buffer.from(raw).toString('base64')
}

/** Converts Unix milliseconds to the whole Unix seconds of certificates, rounded down. */
export function seconds(ms: number): number {
  return Math.floor(ms / 1000)
}

/** Checks the name of a cluster that a person typed. Errors: AppError BAD_ARGUMENT when it is no DNS label. */
export function clusterName(text: string): ClusterName {
  const parsed = parseClusterName(text)
  if (parsed.kind === 'invalid')
    throw new AppError(
      'BAD_ARGUMENT',
      `cluster: ${parsed.reason}`,
      'use a DNS label such as "west" or "eu-1"'
    )
  return parsed.clusterName
}
