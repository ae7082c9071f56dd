// A real Kubernetes API server with its own etcd, on loopback, in a temporary folder: start, stop, kill, restart, compact.
// Built once by build/kube-lab. Invariant: every process is ended by its id, also when the tests end in an exception.
import assert from 'node:assert/strict'
import { execFile, spawn, type ChildProcess, type SpawnOptions } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { closeSync, openSync, readFileSync, rmSync } from 'node:fs'
import { mkdtemp, rename, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { openKubeClient, type KubeClient } from '../../../src/io/kube/client.ts'
import { eventually, slowness } from '../../eventually.ts'
import { freePort } from '../../ports.ts'
import type { Namespace } from './netns.ts'
import { relayPorts } from './relay.ts'

const run = promisify(execFile)

export interface KubeLab {
  readonly 'kube-apiserver': string
  readonly coredns: string
  readonly etcd: string
}

/** Paths of the programs; builds them first where they are missing, which takes minutes: give the hook that much time. */
export async function kubeLab(): Promise<KubeLab> {
  const child = spawn('build/kube-lab', { stdio: ['ignore', 'pipe', 'inherit'] })
  let text = ''
  child.stdout.setEncoding('utf8').on('data', (chunk: string) => {
    text += chunk
  })
  const code = await new Promise((resolve, reject) => {
    child.on('error', reject)
    child.on('close', resolve)
  })
  assert.equal(code, 0, 'build/kube-lab failed; its reason is above')
  const path = (name: string): string =>
    new RegExp(`^${name}=(.+)$`, 'm').exec(text)?.[1] ?? assert.fail(`build/kube-lab did not name ${name}`)
  return { 'kube-apiserver': path('kube-apiserver'), coredns: path('coredns'), etcd: path('etcd') }
}

/** For `this.timeout` of the hook that calls `kubeLab`. */
export const KUBE_LAB_BUILD_MS = 45 * 60_000

export interface KubeApiOptions {
  readonly lab: KubeLab
  /** Default 10.96.0.0/16. */
  readonly serviceCidr?: string
  /** Where the servers run, on loopback as ever. From here they are reached at the same addresses. */
  readonly namespace?: Namespace
  /** More of kube-apiserver's flags. */
  readonly flags?: readonly string[]
}

export interface KubeApi {
  /** "https://127.0.0.1:<port>"; stays the same over restarts. */
  readonly url: string
  readonly caFile: string
  readonly adminToken: string
  /** Of the admin. */
  readonly kubeconfig: string
  readonly folder: string
  /** Of the admin. */
  readonly client: KubeClient
  /** From the start of etcd to the first whole answer. */
  readonly startMs: number
  /** A kubeconfig file with this token. */
  kubeconfigFor(token: string): Promise<string>
  /** A token of a service account, as a pod would have. Makes the account. */
  serviceAccountToken(namespace: string, name: string): Promise<string>
  /** Resident memory of the API server and of etcd, in bytes. */
  memory(): { readonly apiserver: number; readonly etcd: number }
  /** kill -9 of the API server; etcd goes on. */
  kill(): Promise<void>
  /** Ends the API server in order: it ends its watches in order, too. */
  shutDown(): Promise<void>
  /** The API server again (killed first if it runs). `compact`: with all history before now thrown away. */
  restart(options?: { readonly compact?: boolean }): Promise<void>
  /** Deletes an object behind the back of the API server: "/registry/services/specs/<namespace>/<name>". */
  deleteFromEtcd(key: string): Promise<void>
  /** Throws away etcd's history. */
  compact(): Promise<void>
  /** Copies etcd's data while both are down for a moment; `restore` brings the cluster back to it. */
  backup(): Promise<void>
  restore(): Promise<void>
  /** Back to the last backup; what was there becomes the backup. */
  exchange(): Promise<void>
  stop(): Promise<void>
}

// A cold start takes 5 s on an idle machine with two cores.
const READY_MS = 90_000

/** Errors: AssertionError with the end of the server's log. */
export async function startKubeApi(options: KubeApiOptions): Promise<KubeApi> {
  const { lab, serviceCidr = '10.96.0.0/16' } = options
  const began = performance.now()
  const folder = await mkdtemp(join(tmpdir(), 'rhizome-kube-'))
  const file = (name: string): string => join(folder, name)
  const adminToken = randomBytes(16).toString('hex')
  const processes = new Processes(folder, options.namespace)
  let endRelays: () => void = () => undefined
  try {
    await makeCertificates(folder)
    await writeFile(file('tokens.csv'), `${adminToken},admin,admin,"system:masters"\n`, { mode: 0o600 })
    const [etcdPort, peerPort, port] = [await freePort(), await freePort(), await freePort()]
    const url = `https://127.0.0.1:${port}`
    const etcdUrl = `http://127.0.0.1:${etcdPort}`

    const startEtcd = (): void =>
      processes.start('etcd', lab.etcd, [
        `--name=lab`,
        `--data-dir=${file('etcd')}`,
        `--listen-client-urls=${etcdUrl}`,
        `--advertise-client-urls=${etcdUrl}`,
        `--listen-peer-urls=http://127.0.0.1:${peerPort}`,
        `--initial-advertise-peer-urls=http://127.0.0.1:${peerPort}`,
        `--initial-cluster=lab=http://127.0.0.1:${peerPort}`,
        '--unsafe-no-fsync'
      ])
    const startApiserver = (): void =>
      processes.start('kube-apiserver', lab['kube-apiserver'], [
        `--etcd-servers=${etcdUrl}`,
        '--etcd-compaction-interval=0',
        '--bind-address=127.0.0.1',
        '--advertise-address=127.0.0.1',
        `--secure-port=${port}`,
        `--service-cluster-ip-range=${serviceCidr}`,
        `--tls-cert-file=${file('server.crt')}`,
        `--tls-private-key-file=${file('server.key')}`,
        `--client-ca-file=${file('ca.crt')}`,
        `--token-auth-file=${file('tokens.csv')}`,
        `--service-account-key-file=${file('accounts.key')}`,
        `--service-account-signing-key-file=${file('accounts.key')}`,
        '--service-account-issuer=https://kubernetes.default.svc',
        '--authorization-mode=RBAC',
        '--endpoint-reconciler-type=none',
        // Nobody makes default service accounts here, so pods would be refused.
        '--disable-admission-plugins=ServiceAccount',
        '--enable-priority-and-fairness=false',
        '--profiling=false',
        ...(options.flags ?? [])
      ])

    startEtcd()
    startApiserver()
    if (options.namespace !== undefined)
      endRelays = await relayPorts(options.namespace, folder, [port, etcdPort])
    const kubeconfigFor = async (token: string): Promise<string> => {
      const path = file(`kubeconfig-${randomBytes(4).toString('hex')}`)
      await writeFile(path, kubeconfigText({ url, token, caFile: file('ca.crt') }), { mode: 0o600 })
      return path
    }
    const kubeconfig = await kubeconfigFor(adminToken)
    const client = await openKubeClient({ kubeconfig })
    const ready = (): Promise<void> =>
      eventually(async () => {
        processes.assertRuns('kube-apiserver')
        const text = await client
          .request({ path: '/readyz/ping', deadlineMs: 2000 })
          .catch((error: Error) => error.message)
        // "ok" is no JSON: that message is the success.
        assert.match(String(text), /not complete JSON/)
        await client.request({
          path: '/apis/rbac.authorization.k8s.io/v1/clusterroles/admin',
          deadlineMs: 2000
        })
        await client.request({ path: '/api/v1/namespaces/default', deadlineMs: 2000 })
        return true
      }, READY_MS).catch((error: unknown) => {
        throw new Error(`kube-apiserver is not ready:\n${processes.log('kube-apiserver')}`, { cause: error })
      })
    await ready()

    const compact = async (): Promise<void> => {
      const status = await etcdCall(etcdUrl, '/v3/maintenance/status', {})
      const revision = (status as { header: { revision: string } }).header.revision
      await etcdCall(etcdUrl, '/v3/kv/compaction', { revision, physical: true })
    }
    const restart = async ({ compact: forget = false } = {}): Promise<void> => {
      await processes.kill('kube-apiserver')
      if (forget) await compact()
      startApiserver()
      await ready()
    }
    const offline = async (work: () => Promise<unknown>): Promise<void> => {
      await processes.kill('kube-apiserver')
      await processes.kill('etcd')
      await work()
      startEtcd()
      startApiserver()
      await ready()
    }
    return {
      url,
      caFile: file('ca.crt'),
      adminToken,
      kubeconfig,
      folder,
      client,
      startMs: performance.now() - began,
      kubeconfigFor,
      serviceAccountToken: (namespace, name) => serviceAccountToken(client, namespace, name),
      memory: () => ({ apiserver: processes.memory('kube-apiserver'), etcd: processes.memory('etcd') }),
      kill: () => processes.kill('kube-apiserver'),
      shutDown: () => processes.kill('kube-apiserver', 'SIGTERM'),
      restart,
      deleteFromEtcd: async (key) => {
        const answer = await etcdCall(etcdUrl, '/v3/kv/deleterange', { key: btoa(key) })
        assert.equal((answer as { deleted?: string }).deleted, '1', `${key} is not in etcd`)
      },
      compact,
      backup: () => offline(() => run('cp', ['-a', file('etcd'), file('etcd-backup')])),
      restore: () =>
        offline(async () => {
          rmSync(file('etcd'), { recursive: true, force: true })
          await run('cp', ['-a', file('etcd-backup'), file('etcd')])
        }),
      exchange: () =>
        offline(async () => {
          await rename(file('etcd'), file('etcd-other'))
          await rename(file('etcd-backup'), file('etcd'))
          await rename(file('etcd-other'), file('etcd-backup'))
        }),
      stop: async () => {
        client.close()
        endRelays()
        await processes.close()
      }
    }
  } catch (error) {
    endRelays()
    await processes.close()
    throw error
  }
}

/** The processes of one folder, by name; both end together, at the latest with this process. */
class Processes {
  readonly #folder: string
  readonly #namespace: Namespace | undefined
  readonly #children = new Map<string, ChildProcess>()
  readonly #onExit = (): void => {
    for (const child of this.#children.values()) child.kill('SIGKILL')
    rmSync(this.#folder, { recursive: true, force: true })
  }

  constructor(folder: string, namespace: Namespace | undefined) {
    this.#folder = folder
    this.#namespace = namespace
    process.once('exit', this.#onExit)
  }

  start(name: string, program: string, args: readonly string[]): void {
    const log = openSync(this.#logFile(name), 'a')
    const options: SpawnOptions = {
      stdio: ['ignore', log, log],
      // Less memory for a little more work: several of them run on one small machine.
      env: { ...process.env, GOGC: '50', GOMAXPROCS: '2' }
    }
    const child =
      this.#namespace === undefined
        ? spawn(program, args, options)
        : this.#namespace.spawn([program, ...args], options)
    closeSync(log)
    child.on('error', () => undefined)
    this.#children.set(name, child)
  }

  assertRuns(name: string): void {
    const child = this.#children.get(name)
    assert.ok(
      child && child.exitCode === null && child.signalCode === null,
      `${name} ended:\n${this.log(name)}`
    )
  }

  async kill(name: string, signal: NodeJS.Signals = 'SIGKILL'): Promise<void> {
    const child = this.#children.get(name)
    this.#children.delete(name)
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return
    const gone = new Promise((resolve) => {
      child.once('exit', resolve)
    })
    child.kill(signal)
    await gone
  }

  memory(name: string): number {
    const status = readFileSync(`/proc/${this.#children.get(name)?.pid}/status`, 'utf8')
    return Number(/VmRSS:\s+(\d+)/.exec(status)?.[1] ?? 0) * 1024
  }

  log(name: string): string {
    return readFileSync(this.#logFile(name), 'utf8').slice(-4000)
  }

  async close(): Promise<void> {
    process.off('exit', this.#onExit)
    for (const name of this.#children.keys()) await this.kill(name)
    rmSync(this.#folder, { recursive: true, force: true })
  }

  #logFile(name: string): string {
    return join(this.#folder, `${name}.log`)
  }
}

async function makeCertificates(folder: string): Promise<void> {
  const openssl = (...args: readonly string[]) => run('openssl', args, { cwd: folder })
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes']
  await openssl(
    'req',
    '-x509',
    ...key,
    '-keyout',
    'ca.key',
    '-out',
    'ca.crt',
    '-days',
    '2',
    '-subj',
    '/CN=lab'
  )
  await openssl('req', ...key, '-keyout', 'server.key', '-out', 'server.csr', '-subj', '/CN=kube-apiserver')
  const names =
    'subjectAltName=IP:127.0.0.1,IP:10.96.0.1,DNS:localhost,DNS:kubernetes,DNS:kubernetes.default.svc'
  await writeFile(join(folder, 'server.ext'), names)
  await openssl(
    ...'x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial'.split(' '),
    ...'-out server.crt -days 2 -extfile server.ext'.split(' ')
  )
  await openssl('genpkey', '-algorithm', 'RSA', '-pkeyopt', 'rsa_keygen_bits:2048', '-out', 'accounts.key')
}

function kubeconfigText(of: {
  readonly url: string
  readonly token: string
  readonly caFile: string
}): string {
  const name = 'lab'
  return JSON.stringify({
    apiVersion: 'v1',
    kind: 'Config',
    'current-context': name,
    clusters: [{ name, cluster: { server: of.url, 'certificate-authority': of.caFile } }],
    users: [{ name, user: { token: of.token } }],
    contexts: [{ name, context: { cluster: name, user: name } }]
  })
}

async function serviceAccountToken(client: KubeClient, namespace: string, name: string): Promise<string> {
  const path = `/api/v1/namespaces/${namespace}/serviceaccounts`
  await client.request({ method: 'POST', path, body: { metadata: { name } } }).catch((error: unknown) => {
    assert.equal((error as { code?: string }).code, 'CONFLICT')
  })
  const body = { apiVersion: 'authentication.k8s.io/v1', kind: 'TokenRequest', spec: {} }
  const answer = await client.request({ method: 'POST', path: `${path}/${name}/token`, body })
  return (answer as { status: { token: string } }).status.token
}

async function etcdCall(url: string, path: string, body: object): Promise<unknown> {
  const response = await fetch(`${url}${path}`, {
    method: 'POST',
    body: JSON.stringify(body),
    signal: AbortSignal.timeout(10_000 * slowness())
  })
  assert.ok(response.ok, `etcd ${path}: ${response.status} ${await response.clone().text()}`)
  return response.json()
}
