// Reads kubeconfig files as kubectl does, and gives the one context that is used to @kubernetes/client-node 2. Its own
// reader refuses or ignores much of what kubectl accepts: files of KUBECONFIG that do not exist or that have the same
// names, entries that are not used, tokenFile, merge keys, servers without a scheme.
// Invariants
//   1. The first file that has a name decides about it, and the first current-context counts. A file that does not exist
//      and an empty one have no entries.
//   2. A relative path in a file begins at the folder of that file.
//   3. Only the entries of the context that is used have to be complete.
// Source: client-go 1.37, tools/clientcmd (loader.go, client_config.go, validation.go). test/lab/kubeconfig.test.ts compares
// with the real kubectl.
import type { Cluster, User } from '@kubernetes/client-node'
import { readFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { dirname, isAbsolute, join } from 'node:path'
import { codeOf } from '../../core/model/coded-error.ts'
import { isFields, type Fields } from '../../core/model/field-check.ts'
import { parseYaml } from '../manifests/parse-yaml.ts'

type Environment = Readonly<Record<string, string | undefined>>

/** What one context says. */
export interface KubeContext {
  readonly name: string
  readonly namespace: string | undefined
  /** `server` has a scheme, in lower case, and no slash at its end. */
  readonly cluster: Cluster
  /** Without a name for a context that has no user. */
  readonly user: User
  /** The absolute path of a file with the token. It is read for each request, because it is renewed on disk. */
  readonly tokenFile: string | undefined
  /** Headers that ask the server to act for another user: Impersonate-User and its like, in lower case. */
  readonly impersonation: Readonly<Record<string, string | string[]>>
}

/** Returns the paths of the kubeconfig files as client-go finds them; they need not exist. */
export function kubeconfigFiles(env: Environment): string[] {
  const named = (env['KUBECONFIG'] ?? '').split(':').filter((name) => name !== '')
  return named.length > 0 ? [...new Set(named)] : [join(env['HOME'] || homedir(), '.kube', 'config')]
}

/**
 * Reads the context `context`, or the current one. undefined: none of the files exists. Throws an Error that names the
 * file or the entry, and errors of the file system other than ENOENT.
 */
export function readKubeconfig(
  files: readonly string[],
  context: string | undefined
): KubeContext | undefined {
  const read = files.flatMap((file) => readFile(file) ?? [])
  if (read.length === 0) return undefined
  const name = context ?? read.find(({ current }) => current !== '')?.current ?? ''
  if (name === '') throw new Error('it has no current-context')
  const { text } = entryOf(read, 'contexts', name) ?? fail(`it has no context ${quoted(name)}`)
  if (text['cluster'] === undefined) throw new Error(`the context ${quoted(name)} has no cluster`)
  const missing = (what: string, of: string): never =>
    fail(`the context ${quoted(name)} names the ${what} ${quoted(of)}, which is in no file`)
  const cluster = entryOf(read, 'clusters', text['cluster']) ?? missing('cluster', text['cluster'])
  const user = text['user'] === undefined ? undefined : entryOf(read, 'users', text['user'])
  if (user === undefined && text['user'] !== undefined) return missing('user', text['user'])
  return { name, namespace: text['namespace'], cluster: clusterOf(cluster), ...userOf(user, cluster) }
}

// ------------------------------------------------------------------ files and their entries

/** The lists of a kubeconfig, and the field in which an entry has its values. */
const LISTS = { clusters: 'cluster', users: 'user', contexts: 'context' } as const
type ListName = keyof typeof LISTS

/** The fields that are read as text. kubectl refuses a file in which one of them is of another type. */
const TEXTS: Readonly<Record<ListName, readonly string[]>> = {
  clusters: ['server', 'certificate-authority', 'certificate-authority-data', 'tls-server-name', 'proxy-url'],
  users: [
    'token',
    'tokenFile',
    'username',
    'password',
    'client-certificate',
    'client-certificate-data',
    'client-key',
    'client-key-data',
    'as',
    'as-uid'
  ],
  contexts: ['cluster', 'user', 'namespace']
}

interface Entry {
  readonly name: string
  /** The folder of its file. */
  readonly folder: string
  readonly fields: Fields
  /** The fields of TEXTS that are not empty. */
  readonly text: Readonly<Record<string, string | undefined>>
}

type File = Readonly<Record<ListName, ReadonlyMap<string, Entry>>> & { readonly current: string }

/** Reads a file; undefined: there is none. */
function readFile(file: string): File | undefined {
  let text: string
  try {
    text = readFileSync(file, 'utf8').replace(/^\ufeff/, '')
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return undefined
    throw error
  }
  const parsed = parseYaml(text)
  if (parsed.kind === 'malformed') throw new Error(`${file}, line ${parsed.line + 1}: ${parsed.message}`)
  const content = parsed.object ?? {}
  const {
    kind = 'Config',
    apiVersion = 'v1',
    ...fields
  } = isFields(content) ? content : { kind: typeof content }
  if (kind !== 'Config' || apiVersion !== 'v1')
    throw new Error(`${file} is ${quoted(kind)} of ${quoted(apiVersion)}, but not "Config" of "v1"`)
  const lists = (list: ListName) => entriesOf(fields[list], { list, folder: dirname(file), file })
  return {
    current: textOf(fields, 'current-context', file) ?? '',
    clusters: lists('clusters'),
    users: lists('users'),
    contexts: lists('contexts')
  }
}

/** The entries of one list. kubectl refuses a file that has one name twice. */
function entriesOf(
  value: unknown,
  { list, folder, file }: { readonly list: ListName; readonly folder: string; readonly file: string }
): ReadonlyMap<string, Entry> {
  const found = new Map<string, Entry>()
  if (value === undefined || value === null) return found
  if (!Array.isArray(value)) throw new Error(`${file}: ${list} is not a list`)
  for (const [index, each] of value.entries()) {
    const where = `${file}: ${list}[${index}]`
    const item: Fields = isFields(each) ? each : {}
    const name = textOf(item, 'name', where) ?? ''
    const inner = item[LISTS[list]]
    const fields = isFields(inner) ? inner : {}
    const text = Object.fromEntries(
      TEXTS[list].map((key) => [key, textOf(fields, key, `${where}.${LISTS[list]}`)])
    )
    if (found.has(name)) throw new Error(`${file}: ${list} has the name ${quoted(name)} twice`)
    found.set(name, { name, folder, fields, text })
  }
  return found
}

function entryOf(files: readonly File[], list: ListName, name: string): Entry | undefined {
  return files.find((file) => file[list].has(name))?.[list].get(name)
}

function fail(message: string): never {
  throw new Error(message)
}

/** A text that is not empty; undefined where it is, or where there is none. */
function textOf(fields: Fields, key: string, where: string): string | undefined {
  const value = fields[key]
  if (value === undefined || value === null || value === '') return undefined
  if (typeof value !== 'string') throw new Error(`${where}.${key} is not a text; write it in quotation marks`)
  return value
}

// ------------------------------------------------------------------ the entries that are used

function clusterOf(entry: Entry): Cluster {
  const { name, fields, text } = entry
  const { server } = text
  const { data: caData, file: caFile } = dataOrFile(entry, 'certificate-authority')
  if (server === undefined) throw new Error(`the cluster ${quoted(name)} has no server`)
  const isInsecure = fields['insecure-skip-tls-verify'] === true
  const hasCa = caData !== undefined || caFile !== undefined
  if (isInsecure && hasCa)
    throw new Error(
      `the cluster ${quoted(name)} has both insecure-skip-tls-verify and a certificate-authority; only one of them is allowed`
    )
  // kubectl takes a server without a scheme for one without TLS, unless there are options of TLS.
  const full = /^[a-z][a-z0-9+.-]*:\/\//i.test(server)
    ? server
    : `${isInsecure || hasCa ? 'https' : 'http'}://${server}`
  const url = URL.canParse(full) ? new URL(full) : undefined
  if (url === undefined || !['http:', 'https:'].includes(url.protocol))
    throw new Error(
      `the server ${quoted(server)} of the cluster ${quoted(name)} is no URL with http or https`
    )
  return {
    name,
    server: `${url.protocol}//${url.host}${url.pathname.replace(/\/+$/, '')}`,
    // client-node refuses a server without TLS unless this is set.
    skipTLSVerify: isInsecure || url.protocol === 'http:',
    ...(caData !== undefined && { caData }),
    ...(caFile !== undefined && { caFile }),
    ...(text['tls-server-name'] !== undefined && { tlsServerName: text['tls-server-name'] }),
    ...(text['proxy-url'] !== undefined && { proxyUrl: text['proxy-url'] })
  }
}

function userOf(
  entry: Entry | undefined,
  cluster: Entry
): Pick<KubeContext, 'user' | 'tokenFile' | 'impersonation'> {
  if (entry === undefined) return { user: { name: '' }, tokenFile: undefined, impersonation: {} }
  const { name, folder, fields, text } = entry
  const { token, username, password } = text
  const tokenFile = text['tokenFile'] === undefined ? undefined : absolute(folder, text['tokenFile'])
  const hasToken = token !== undefined || tokenFile !== undefined
  if (hasToken && username !== undefined)
    throw new Error(
      `the user ${quoted(name)} has both a token and a username with a password; only one of them is allowed`
    )
  const exec = fields['exec']
  const [cert, key] = [dataOrFile(entry, 'client-certificate'), dataOrFile(entry, 'client-key')]
  return {
    user: {
      name,
      ...(cert.data !== undefined && { certData: cert.data }),
      ...(cert.file !== undefined && { certFile: cert.file }),
      ...(key.data !== undefined && { keyData: key.data }),
      ...(key.file !== undefined && { keyFile: key.file }),
      ...(token !== undefined && { token }),
      ...(username !== undefined && { username, password: password ?? '' }),
      // A token wins over a login helper.
      ...(!hasToken && isFields(exec) && { exec: execOf(exec, folder, cluster) }),
      ...(!hasToken && isFields(fields['auth-provider']) && { authProvider: fields['auth-provider'] })
    },
    tokenFile,
    impersonation: impersonationOf(entry)
  }
}

/** A certificate or key: its data, or the absolute path of its file. Data wins over a file. */
function dataOrFile(
  { folder, text }: Entry,
  key: 'certificate-authority' | 'client-certificate' | 'client-key'
): { readonly data?: string; readonly file?: string } {
  const [data, file] = [text[`${key}-data`], text[key]]
  if (data !== undefined) return { data }
  return file === undefined ? {} : { file: absolute(folder, file) }
}

/**
 * The login helper, with what client-node leaves out: a path relative to the kubeconfig, and the variable
 * KUBERNETES_EXEC_INFO with the version of the answer that is expected and, on request, with the cluster (KEP-541).
 */
function execOf(exec: Fields, folder: string, cluster: Entry): Fields {
  const { command } = exec
  const spec = {
    ...(exec['provideClusterInfo'] === true && { cluster: execCluster(cluster) }),
    interactive: false
  }
  const info = JSON.stringify({ kind: 'ExecCredential', apiVersion: exec['apiVersion'], spec })
  return {
    ...exec,
    args: exec['args'] ?? [],
    env: [
      ...(Array.isArray(exec['env']) ? exec['env'].filter(isFields) : []),
      { name: 'KUBERNETES_EXEC_INFO', value: info }
    ],
    // A bare name is looked for in PATH.
    ...(typeof command === 'string' && command.includes('/') && { command: absolute(folder, command) })
  }
}

/** The cluster as a login helper gets it. */
function execCluster(cluster: Entry): Fields {
  const { server, tlsServerName, skipTLSVerify, caData, caFile, proxyUrl } = clusterOf(cluster)
  const data = caData ?? (caFile === undefined ? undefined : readFileSync(caFile).toString('base64'))
  const { extensions } = cluster.fields
  const own = Array.isArray(extensions)
    ? extensions.filter(isFields).find(({ name }) => name === 'client.authentication.k8s.io/exec')
    : undefined
  return {
    server,
    ...(tlsServerName !== undefined && { 'tls-server-name': tlsServerName }),
    ...(skipTLSVerify && { 'insecure-skip-tls-verify': true }),
    ...(data !== undefined && { 'certificate-authority-data': data }),
    ...(proxyUrl !== undefined && { 'proxy-url': proxyUrl }),
    config: own?.['extension'] ?? null
  }
}

/** as, as-groups, as-uid and as-user-extra as headers. */
function impersonationOf({ name, fields, text }: Entry): KubeContext['impersonation'] {
  const [user, uid, groups] = [text['as'], text['as-uid'], textsOf(fields['as-groups'])]
  const extra = Object.entries(isFields(fields['as-user-extra']) ? fields['as-user-extra'] : {})
  if (user === undefined) {
    if (uid === undefined && groups.length === 0 && extra.length === 0) return {}
    throw new Error(`the user ${quoted(name)} has as-uid, as-groups or as-user-extra without as`)
  }
  return {
    'impersonate-user': user,
    ...(uid !== undefined && { 'impersonate-uid': uid }),
    ...(groups.length > 0 && { 'impersonate-group': groups }),
    ...Object.fromEntries(
      extra.map(([key, values]) => [
        `impersonate-extra-${encodeURIComponent(key.toLowerCase()).toLowerCase()}`,
        textsOf(values)
      ])
    )
  }
}

function textsOf(value: unknown): string[] {
  return Array.isArray(value) ? value.filter((each) => typeof each === 'string') : []
}

function absolute(folder: string, path: string): string {
  return isAbsolute(path) ? path : join(folder, path)
}

function quoted(value: unknown): string {
  return JSON.stringify(value)
}
