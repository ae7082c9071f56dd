// A real Kubernetes cluster of several nodes on this machine: etcd, API server, controllers and scheduler run on the first node; each node has
// kubelet, containerd and kube-proxy. The network plugin is the bridge of CNI, with a route to the pods of each other node.
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { eventually } from '../../../eventually.ts'
import type { PodReply, PodRequest } from '../../../demo/pod.ts'
import type { ExecOptions, ExecResult } from '../netns.ts'
import { IMAGES } from './images.ts'
import { LabNode, type NodeConfig, type NodePlan } from './node.ts'
import { dnsObjects, nodeObjects } from './objects.ts'
import type { Programs } from './programs.ts'

const run = promisify(execFile)
const PORT = 6443
// From the start of etcd to the first answer of the API server it takes 5 s on an idle machine with two cores.
const READY_MS = 90_000
// Those of which something here needs the work: fewer cost less.
const CONTROLLERS = [
  'serviceaccount-controller',
  'root-ca-certificate-publisher-controller',
  'namespace-controller',
  'garbage-collector-controller',
  'node-lifecycle-controller',
  'daemonset-controller',
  'deployment-controller',
  'replicaset-controller',
  'job-controller',
  'statefulset-controller',
  'endpointslice-controller'
]

export interface ClusterPlan {
  readonly name: string
  readonly podsCidr: string
  /** A /16. Its address .0.1 is the API server's Service, .0.10 that of CoreDNS. */
  readonly servicesCidr: string
  /** The first one has the control plane. */
  readonly nodes: readonly NodePlan[]
}

export type ClusterParts = Pick<NodeConfig, 'lab' | 'programs' | 'folder' | 'store'>

export class LabCluster {
  readonly name: string
  readonly plan: ClusterPlan
  readonly nodes: readonly LabNode[]
  readonly folder: string
  readonly #parts: ClusterParts

  private constructor(plan: ClusterPlan, parts: ClusterParts, nodes: readonly LabNode[]) {
    this.name = plan.name
    this.plan = plan
    this.nodes = nodes
    this.folder = parts.folder
    this.#parts = parts
  }

  /** All nodes Ready and CoreDNS running. Errors: with the ends of the logs. */
  static async start(plan: ClusterPlan, shared: ClusterParts): Promise<LabCluster> {
    const parts = { ...shared, folder: join(shared.folder, plan.name) }
    mkdirSync(parts.folder, { recursive: true })
    await makeCertificates(parts.folder, plan)
    const dnsAddress = addressIn(plan.servicesCidr, 10)
    const kubeconfig = (user: string) => join(parts.folder, `${user.replaceAll(':', '-')}.kubeconfig`)
    const config = { ...parts, podsCidr: plan.podsCidr, dnsAddress, kubeconfig }
    const nodes: LabNode[] = []
    for (const node of plan.nodes) nodes.push(await LabNode.raise(node, config))
    const cluster = new LabCluster(plan, parts, nodes)
    try {
      await cluster.#routePods()
      await cluster.#startControlPlane()
      await cluster.create(nodeObjects(plan.nodes))
      for (const node of nodes) node.startKubelet()
      await cluster.create(dnsObjects(dnsAddress, IMAGES.coredns))
      await cluster.kubectl(['wait', '--for=condition=Ready', 'node', '--all', '--timeout=120s'])
      await cluster.kubectl([
        '-n',
        'kube-system',
        'rollout',
        'status',
        'deployment/coredns',
        '--timeout=120s'
      ])
      return cluster
    } catch (error) {
      throw new Error(`the cluster ${plan.name} did not start: ${String(error)}\n${cluster.logs()}`, {
        cause: error
      })
    }
  }

  get #first(): LabNode {
    return this.nodes[0] ?? assert.fail('a cluster has a node')
  }

  /** Paths of programs for the administrator. */
  get tools(): Pick<Programs, 'kubectl' | 'helm'> {
    return this.#parts.programs
  }

  get kubeconfig(): string {
    return join(this.folder, 'admin.kubeconfig')
  }

  node(name: string): LabNode {
    return this.nodes.find((node) => node.name === name) ?? assert.fail(`no node ${name}`)
  }

  /** As the administrator. Rejects when the exit code is not 0, unless `check` is false. */
  kubectl(args: readonly string[], options: ExecOptions = {}): Promise<ExecResult> {
    const { kubectl } = this.#parts.programs
    return this.#first.namespace.exec([kubectl, `--kubeconfig=${this.kubeconfig}`, ...args], {
      timeoutMs: 150_000,
      ...options
    })
  }

  helm(args: readonly string[]): Promise<ExecResult> {
    const home = join(this.folder, 'helm')
    return this.#first.namespace.exec([this.#parts.programs.helm, ...args], {
      timeoutMs: 200_000,
      env: {
        KUBECONFIG: this.kubeconfig,
        HELM_CACHE_HOME: home,
        HELM_CONFIG_HOME: home,
        HELM_DATA_HOME: home
      }
    })
  }

  async create(objects: readonly object[]): Promise<void> {
    const input = JSON.stringify({ apiVersion: 'v1', kind: 'List', items: objects })
    await this.kubectl(['create', '--validate=false', '-f', '-'], { input })
  }

  /** What the pod at this address finds out as a client. */
  async ask(node: LabNode, address: string, request: Partial<PodRequest>): Promise<PodReply> {
    const line: PodRequest = {
      id: 0,
      kind: 'tcp',
      host: '',
      port: 8080,
      count: 1,
      timeoutMs: 2000,
      ...request
    }
    const script = 'exec 3<>"/dev/tcp/$0/7000" && printf "%s\\n" "$1" >&3 && cat <&3'
    const { stdout } = await node.namespace.exec(['bash', '-c', script, address, JSON.stringify(line)])
    return JSON.parse(stdout) as PodReply
  }

  /** The ends of all logs, for a failure. */
  logs(): string {
    const programs = ['kube-apiserver', 'kube-controller-manager', 'kubelet', 'containerd', 'kube-proxy']
    return this.nodes
      .flatMap((node) =>
        programs.map((program) => {
          try {
            return `--- ${node.name} ${program}\n${node.log(program)}`
          } catch {
            return '' // it does not run on this node
          }
        })
      )
      .join('\n')
  }

  async stop(): Promise<void> {
    await Promise.all(this.nodes.map((node) => node.stop()))
  }

  /** What a network plugin without an overlay does: each node has routes to the pods of the others. */
  async #routePods(): Promise<void> {
    for (const node of this.nodes)
      for (const other of this.nodes.filter((each) => each !== node))
        await node.namespace.exec(['ip', 'route', 'add', other.podCidr, 'via', other.address])
  }

  async #startControlPlane(): Promise<void> {
    const { programs, folder } = this.#parts
    const first = this.#first
    const file = (name: string): string => join(folder, name)
    first.start('etcd', [
      programs.etcd,
      '--name=lab',
      `--data-dir=${file('etcd')}`,
      '--listen-client-urls=http://127.0.0.1:2379',
      '--advertise-client-urls=http://127.0.0.1:2379',
      '--listen-peer-urls=http://127.0.0.1:2380',
      '--initial-advertise-peer-urls=http://127.0.0.1:2380',
      '--initial-cluster=lab=http://127.0.0.1:2380',
      '--unsafe-no-fsync'
    ])
    first.start('kube-apiserver', [
      programs['kube-apiserver'],
      '--etcd-servers=http://127.0.0.1:2379',
      '--bind-address=0.0.0.0',
      `--advertise-address=${first.address}`,
      `--secure-port=${PORT}`,
      `--service-cluster-ip-range=${this.plan.servicesCidr}`,
      `--tls-cert-file=${file('server.crt')}`,
      `--tls-private-key-file=${file('server.key')}`,
      `--client-ca-file=${file('ca.crt')}`,
      `--token-auth-file=${file('tokens.csv')}`,
      `--service-account-key-file=${file('accounts.key')}`,
      `--service-account-signing-key-file=${file('accounts.key')}`,
      '--service-account-issuer=https://kubernetes.default.svc',
      '--authorization-mode=Node,RBAC',
      '--enable-admission-plugins=NodeRestriction',
      '--allow-privileged=true',
      '--enable-priority-and-fairness=false',
      '--kubelet-preferred-address-types=InternalIP',
      '--profiling=false'
    ])
    await eventually(async () => {
      const { exitCode } = await this.kubectl(['get', '--raw', '/readyz'], {
        check: false,
        timeoutMs: 10_000
      })
      return exitCode === 0
    }, READY_MS)
    first.start('kube-controller-manager', [
      programs['kube-controller-manager'],
      `--kubeconfig=${this.kubeconfig}`,
      `--controllers=${CONTROLLERS.join(',')}`,
      `--root-ca-file=${file('ca.crt')}`,
      `--service-account-private-key-file=${file('accounts.key')}`,
      '--leader-elect=false'
    ])
    first.start('kube-scheduler', [
      programs['kube-scheduler'],
      `--kubeconfig=${file('system-kube-scheduler.kubeconfig')}`,
      '--leader-elect=false'
    ])
  }
}

/** The address of a /16 with these last numbers: ("10.101.0.0/16", 10) → "10.101.0.10". */
export function addressIn(cidr: string, last: number): string {
  return cidr.replace(/\.0\/16$/, `.${last}`)
}

/** An authority, the certificate of the API server, the key of service accounts, and a kubeconfig with a token for each user. */
async function makeCertificates(folder: string, plan: ClusterPlan): Promise<void> {
  const openssl = (...args: readonly string[]) => run('openssl', args, { cwd: folder })
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes']
  await openssl('req', '-x509', ...key, ...'-keyout ca.key -out ca.crt -days 2 -subj /CN=lab'.split(' '))
  await openssl('req', ...key, ...'-keyout server.key -out server.csr -subj /CN=kube-apiserver'.split(' '))
  const [first] = plan.nodes
  const addresses = [first?.address, addressIn(plan.servicesCidr, 1), '127.0.0.1'].map((ip) => `IP:${ip}`)
  const names = ['', '.default', '.default.svc'].map((rest) => `DNS:kubernetes${rest}`)
  writeFileSync(join(folder, 'server.ext'), `subjectAltName=${[...addresses, ...names].join()}`)
  await openssl(
    ...'x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial'.split(' '),
    ...'-out server.crt -days 2 -extfile server.ext'.split(' ')
  )
  // The API server reads this older form of a key only.
  await openssl(...'ecparam -name prime256v1 -genkey -noout -out accounts.key'.split(' '))
  const users = [
    ['admin', 'system:masters'],
    ['system:kube-scheduler', ''],
    ['system:kube-proxy', ''],
    ...plan.nodes.map(({ name }) => [`system:node:${name}`, 'system:nodes'])
  ]
  const tokens = users.map(([user = '', group = '']) => ({
    user,
    group,
    token: randomBytes(16).toString('hex')
  }))
  writeFileSync(
    join(folder, 'tokens.csv'),
    tokens.map(({ user, group, token }) => `${token},${user},${user},"${group}"\n`).join(''),
    { mode: 0o600 }
  )
  for (const { user, token } of tokens)
    writeFileSync(
      join(folder, `${user.replaceAll(':', '-')}.kubeconfig`),
      JSON.stringify({
        apiVersion: 'v1',
        kind: 'Config',
        'current-context': 'lab',
        clusters: [
          {
            name: 'lab',
            cluster: {
              server: `https://${first?.address}:${PORT}`,
              'certificate-authority': join(folder, 'ca.crt')
            }
          }
        ],
        users: [{ name: user, user: { token } }],
        contexts: [{ name: 'lab', context: { cluster: 'lab', user } }]
      }),
      { mode: 0o600 }
    )
}
