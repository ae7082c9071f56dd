// A Kubernetes node as namespaces of this machine: its own network (of the lab), mounts, processes, host name, IPC and cgroups; `init` beside
// this file is its first process. Invariant: the node lives as long as the standard input of `init` is open, so it ends with this process,
// however this process ends.
import assert from 'node:assert/strict'
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Lab, Namespace } from '../netns.ts'
import { makeCgroups, processorSeconds } from './cgroups.ts'
import { copyStore } from './store.ts'
import type { Programs } from './programs.ts'

const INIT = join(import.meta.dirname, 'init')
// Enters the cgroups whose files are named, then the network of the lab (`ip netns exec` would hide the cgroups), then becomes the node.
const ENTER =
  'folder=$1 name=$2 net=$3; shift 3; for file; do echo $$ >"$file"; done; exec nsenter --net="/run/netns/$net" unshare -C -m -p -u -i -f --kill-child=KILL "$0" "$folder" "$name"'

export interface NodePlan {
  /** Of the Node object; [a-z0-9-]+. */
  readonly name: string
  /** On the wide-area link of the lab, 203.0.113.0/24. */
  readonly address: string
  /** spec.podCIDR, a /24. */
  readonly podCidr: string
}

/** What all nodes of a cluster have alike. */
export interface NodeConfig {
  readonly lab: Lab
  readonly programs: Programs
  /** The folder of the cluster. */
  readonly folder: string
  /** The images of containers, from makeStore. */
  readonly store: string
  readonly podsCidr: string
  readonly dnsAddress: string
  /** What kubelet and kube-proxy of this node connect with. */
  readonly kubeconfig: (user: string) => string
}

export class LabNode {
  readonly name: string
  readonly address: string
  readonly podCidr: string
  readonly namespace: Namespace
  readonly folder: string
  readonly #config: NodeConfig
  readonly #init: ChildProcess
  readonly #cgroups: readonly string[]

  private constructor(
    plan: NodePlan,
    namespace: Namespace,
    config: NodeConfig,
    { init, cgroups }: { readonly init: ChildProcess; readonly cgroups: readonly string[] }
  ) {
    this.name = plan.name
    this.address = plan.address
    this.podCidr = plan.podCidr
    this.namespace = namespace
    this.folder = join(config.folder, plan.name)
    this.#config = config
    this.#init = init
    this.#cgroups = cgroups
  }

  /** The node with its network and nothing that runs. The lab has the namespace `wan` with the bridge `wan`. */
  static async raise(plan: NodePlan, config: NodeConfig): Promise<LabNode> {
    const { lab } = config
    const namespace = await lab.namespace(plan.name)
    await lab.attach(await lab.namespace('wan'), 'wan', plan.name, {
      namespace,
      device: 'eth0',
      cidr: `${plan.address}/24`
    })
    await namespace.exec(['ip', 'route', 'add', 'default', 'via', '203.0.113.1'])
    const folder = join(config.folder, plan.name)
    mkdirSync(join(folder, 'root/etc/cni/net.d'), { recursive: true })
    await copyStore(config.store, join(folder, 'root/var/lib/containerd'))
    const cgroups = makeCgroups(namespace.name)
    const init = spawn('sh', ['-c', ENTER, INIT, folder, plan.name, namespace.name, ...cgroups], {
      stdio: ['pipe', 'pipe', 'inherit'],
      env: { ...process.env, PATH: pathOf(config.programs) }
    })
    init.stdin.on('error', () => undefined) // the node has ended
    await Promise.race([
      once(init.stdout, 'data'),
      once(init, 'exit').then(() => assert.fail(`the node ${plan.name} did not start`))
    ])
    return new LabNode(plan, namespace, config, { init, cgroups })
  }

  /** A program in the background, with the log <name>.log in the folder of the node. */
  start(name: string, argv: readonly string[]): void {
    this.#init.stdin?.write(`start ${[name, ...argv].map(quoted).join(' ')}\n`)
  }

  /** containerd, kubelet and kube-proxy. The Node object exists already, with its podCIDR. */
  startKubelet(): void {
    const { programs, podsCidr, dnsAddress, kubeconfig } = this.#config
    const file = (name: string, text: string): string => {
      writeFileSync(join(this.folder, name), text)
      return join(this.folder, name)
    }
    writeFileSync(join(this.folder, 'root/etc/cni/net.d/10-lab.conflist'), cniConfig(this.podCidr))
    this.start('containerd', ['containerd', '-c', file('containerd.toml', containerdConfig(programs))])
    const config = kubeletConfig({ dnsAddress, resolvConf: join(this.folder, 'resolv.conf') })
    this.start('kubelet', [
      programs.kubelet,
      `--config=${file('kubelet.yaml', JSON.stringify(config))}`,
      `--kubeconfig=${kubeconfig(`system:node:${this.name}`)}`,
      `--hostname-override=${this.name}`,
      `--node-ip=${this.address}`,
      '--root-dir=/var/lib/kubelet'
    ])
    this.start('kube-proxy', [
      programs['kube-proxy'],
      `--kubeconfig=${kubeconfig('system:kube-proxy')}`,
      '--proxy-mode=nftables',
      `--hostname-override=${this.name}`,
      `--cluster-cidr=${podsCidr}`,
      // These limits belong to the whole machine.
      '--conntrack-max-per-core=0',
      '--conntrack-min=0'
    ])
  }

  /** The end of a log, for a failure. */
  log(name: string): string {
    return readFileSync(join(this.folder, `${name}.log`), 'utf8').slice(-4000)
  }

  /** The processor time in seconds that the node and its containers have used. */
  processorSeconds(): number {
    return processorSeconds(this.#cgroups)
  }

  /** Ends all processes of the node. */
  async stop(): Promise<void> {
    if (this.#init.exitCode !== null || this.#init.signalCode !== null) return
    const gone = once(this.#init, 'exit')
    this.#init.stdin?.end()
    await gone
  }

  /** The id of the node's first process, as this namespace of processes counts. */
  pid(): number {
    const parent = this.#init.pid ?? assert.fail('the node does not run')
    return Number(readFileSync(`/proc/${parent}/task/${parent}/children`, 'utf8').trim().split(' ')[0])
  }
}

function pathOf({ containerd, runc }: Programs): string {
  return `${containerd}:${runc}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin`
}

function quoted(word: string): string {
  return `'${word.replaceAll("'", `'\\''`)}'`
}

/** A bridge with the pods of this node; kube-proxy sees what goes through it. */
function cniConfig(podCidr: string): string {
  return JSON.stringify({
    cniVersion: '0.4.0',
    name: 'lab',
    plugins: [
      {
        type: 'bridge',
        bridge: 'cni0',
        isGateway: true,
        hairpinMode: true,
        ipMasq: false,
        ipam: { type: 'host-local', ranges: [[{ subnet: podCidr }]], routes: [{ dst: '0.0.0.0/0' }] }
      }
    ]
  })
}

function containerdConfig({ cni }: Programs): string {
  return `version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
[grpc]
  address = "/run/containerd/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "localhost/lab/pause:1"
  # A process of this lab may not have the right to lower its score.
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "${cni}"
    conf_dir = "/etc/cni/net.d"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
`
}

function kubeletConfig(of: { readonly dnsAddress: string; readonly resolvConf: string }): object {
  return {
    apiVersion: 'kubelet.config.k8s.io/v1beta1',
    kind: 'KubeletConfiguration',
    failCgroupV1: false,
    cgroupDriver: 'cgroupfs',
    containerRuntimeEndpoint: 'unix:///run/containerd/containerd.sock',
    authentication: { anonymous: { enabled: true }, webhook: { enabled: false } },
    authorization: { mode: 'AlwaysAllow' },
    clusterDNS: [of.dnsAddress],
    clusterDomain: 'cluster.local',
    resolvConf: of.resolvConf,
    failSwapOn: false,
    localStorageCapacityIsolation: false,
    imageGCHighThresholdPercent: 100,
    evictionHard: { 'memory.available': '100Mi' },
    enforceNodeAllocatable: [],
    // How soon a changed ConfigMap is in the pods.
    syncFrequency: '3s',
    maxPods: 60
  }
}
