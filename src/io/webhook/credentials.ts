// The content of the webhook's Secret: one authority, one certificate that it signed, and the bundle of authorities
// that clients trust. Every agent that serves the webhook uses the same credentials, so the API server may connect to
// any of them. webhook.ts reads and writes the Secret.
// Invariant: after a change of authority the bundle still has the old one, because other agents may still serve a
// certificate that it signed. So clients never notice the change.
import { createPrivateKey, X509Certificate } from 'node:crypto'
import { createAuthority, issueServing, type KeyPair } from './certificate.ts'

/** Keys and certificates of the webhook; authorityKey and serving are secret. */
export interface Credentials {
  /** The certificates of the authorities that clients trust, in PEM, the newest first. There are at most two. */
  readonly bundle: string
  /** The private key of the newest authority, in PEM (PKCS #8). */
  readonly authorityKey: string
  readonly serving: KeyPair
}

/** The time and the names for which the credentials must be valid. */
interface CredentialsOptions {
  readonly nowMs: number
  /** The names that the API server verifies: "rhizome-webhook.rhizome-system.svc". The first is the common name. */
  readonly dnsNames: readonly string[]
  readonly ips?: readonly string[]
}

// Days. Renewal begins when a third of the lifetime is left, so that there are days to notice that it fails.
const AUTHORITY = { days: 1095, renewDays: 365 }
const SERVING = { days: 90, renewDays: 30 }
const DAY_MS = 86_400_000
const BUNDLE_MAX = 2

/**
 * The credentials that should be in the Secret. Returns the same object when `now` needs no change. `now` undefined:
 * the Secret is empty. Invalid content is replaced.
 */
export function renewCredentials(now: Credentials | undefined, options: CredentialsOptions): Credentials {
  const { nowMs } = options
  const authority = now === undefined ? undefined : authorityOf(now)
  if (now === undefined || authority === undefined || !lasts(authority, AUTHORITY.renewDays, nowMs)) {
    const commonName = `rhizome-webhook-authority-${new Date(nowMs).toISOString().slice(0, 10)}`
    const fresh = createAuthority({ commonName, nowMs, days: AUTHORITY.days })
    const old =
      now === undefined
        ? []
        : certificatesIn(now.bundle).filter((pem) => lasts(new X509Certificate(pem), 0, nowMs))
    return {
      bundle: [fresh.certificate, ...old].slice(0, BUNDLE_MAX).join(''),
      authorityKey: fresh.privateKey,
      serving: serving({ commonName, key: fresh.privateKey }, options)
    }
  }
  if (servingFits(now, authority, options)) return now
  return { ...now, serving: serving({ commonName: commonNameOf(authority), key: now.authorityKey }, options) }
}

/** A new server certificate, signed by the authority. */
function serving(
  authority: { readonly commonName: string; readonly key: string },
  options: CredentialsOptions
): KeyPair {
  return issueServing({
    commonName: options.dnsNames[0] ?? 'rhizome-webhook',
    dnsNames: options.dnsNames,
    ...(options.ips === undefined ? {} : { ips: options.ips }),
    nowMs: options.nowMs,
    days: SERVING.days,
    authority: { commonName: authority.commonName, privateKey: createPrivateKey(authority.key) }
  })
}

/** Returns the authority's certificate, or undefined if there is none or its key does not match its certificate. */
function authorityOf(credentials: Credentials): X509Certificate | undefined {
  try {
    const [pem = ''] = certificatesIn(credentials.bundle)
    const authority = new X509Certificate(pem)
    return authority.checkPrivateKey(createPrivateKey(credentials.authorityKey)) ? authority : undefined
  } catch {
    return undefined // another writer put invalid data there; a new authority is made
  }
}

/** Whether the server certificate matches its key, the authority and the names, and does not end within 30 days. */
function servingFits(
  credentials: Credentials,
  authority: X509Certificate,
  options: CredentialsOptions
): boolean {
  try {
    const certificate = new X509Certificate(credentials.serving.certificate)
    return (
      certificate.checkPrivateKey(createPrivateKey(credentials.serving.privateKey)) &&
      certificate.verify(authority.publicKey) &&
      lasts(certificate, SERVING.renewDays, options.nowMs) &&
      options.dnsNames.every((name) => certificate.checkHost(name) !== undefined) &&
      (options.ips ?? []).every((ip) => certificate.checkIP(ip) !== undefined)
    )
  } catch {
    return false // the text is no certificate or key; a new certificate is made
  }
}

/**
 * Whether a certificate is valid now and ends more than `days` days from now. A certificate that is not valid yet
 * does not last: it was made by a clock that has been set back since.
 */
function lasts(certificate: X509Certificate, days: number, nowMs: number): boolean {
  return (
    certificate.validFromDate.getTime() <= nowMs && certificate.validToDate.getTime() - nowMs > days * DAY_MS
  )
}

function commonNameOf(certificate: X509Certificate): string {
  return /^CN=(.+)$/m.exec(certificate.subject)?.[1] ?? ''
}

/** The certificates of a bundle, each in PEM. */
function certificatesIn(bundle: string): string[] {
  return bundle.match(/-----BEGIN CERTIFICATE-----[\s\S]*?-----END CERTIFICATE-----\n?/g) ?? []
}

// ------------------------------------------------------------------ as a Secret

const KEYS = {
  bundle: 'ca.crt',
  authorityKey: 'ca.key',
  certificate: 'tls.crt',
  privateKey: 'tls.key'
} as const

/** The credentials in the `data` of the Secret; undefined when the bundle or the authority's key is missing. */
export function credentialsOf(data: Readonly<Record<string, unknown>>): Credentials | undefined {
  const read = (key: string): string => {
    const value = data[key]
    return typeof value === 'string' ? Buffer.from(value, 'base64').toString('utf8') : ''
  }
  const bundle = read(KEYS.bundle)
  const authorityKey = read(KEYS.authorityKey)
  if (bundle === '' || authorityKey === '') return undefined
  return {
    bundle,
    authorityKey,
    serving: { certificate: read(KEYS.certificate), privateKey: read(KEYS.privateKey) }
  }
}

/** The `data` of the Secret: base64 by key, with the key names that Kubernetes uses for TLS. */
export function secretData(credentials: Credentials): Readonly<Record<string, string>> {
  const { bundle, authorityKey, serving } = credentials
  const write = (text: string): string => Buffer.from(text).toString('base64')
  return {
    [KEYS.bundle]: write(bundle),
    [KEYS.authorityKey]: write(authorityKey),
    [KEYS.certificate]: write(serving.certificate),
    [KEYS.privateKey]: write(serving.privateKey)
  }
}
