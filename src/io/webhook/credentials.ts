// What is in the webhook's Secret, and what should be: one authority, one certificate that it signed, and the bundle of authorities to be
// trusted. Every agent that serves has the same, so that the API server may ask any of them.
// Invariant: the bundle still has the old authority while certificates that it signed are served: a change of authority is never seen.
import { createPrivateKey, X509Certificate } from 'node:crypto'
import { createAuthority, issueServing, type KeyPair } from './certificate.ts'

export interface Credentials {
  /** PEM; the newest authority first. What clients are to trust. */
  readonly bundle: string
  /** PKCS #8, of the newest authority. */
  readonly authorityKey: string
  readonly serving: KeyPair
}

interface CredentialsOptions {
  readonly nowMs: number
  /** What the API server asks for: "rhizome-webhook.rhizome-system.svc". */
  readonly dnsNames: readonly string[]
  readonly ips?: readonly string[]
}

// A third of the life before its end: days to notice that it cannot be renewed.
const AUTHORITY = { days: 1095, renewDays: 365 }
const SERVING = { days: 90, renewDays: 30 }
const DAY_MS = 86_400_000
const BUNDLE_MAX = 2

/** What should be in the Secret; the same value when all is well. */
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

/** From a clock that went back: what is not valid yet does not last either. */
function lasts(certificate: X509Certificate, days: number, nowMs: number): boolean {
  return (
    certificate.validFromDate.getTime() <= nowMs && certificate.validToDate.getTime() - nowMs > days * DAY_MS
  )
}

function commonNameOf(certificate: X509Certificate): string {
  return /^CN=(.+)$/m.exec(certificate.subject)?.[1] ?? ''
}

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

/** `data` of the Secret; undefined: it is empty or not whole. */
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
