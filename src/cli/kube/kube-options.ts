// The options of `install` and `uninstall` that choose the cluster and the namespace. They are named as in kubectl.
import type { Command } from 'commander'
import { MANIFEST_NAMESPACE } from '../../core/kube/install.ts'
import { badArgument } from '../output/errors.ts'
import type { KubeOptions } from './kube.ts'

/** The options as commander has parsed them. */
export interface KubeFlags {
  /** A path; undefined: the places that kubectl looks in. */
  readonly kubeconfig?: string
  /** A context of the kubeconfig; undefined: its current one. */
  readonly context?: string
  /** The namespace of the agents, always a DNS label; the default is the one of the manifests. */
  readonly namespace: string
}

// The longest wait for one request without another value, in milliseconds: the API server may have to write to members
// of etcd that are far apart.
const REQUEST_MS = 30_000

/** Adds the options to a command. */
export function addKubeOptions(command: Command): void {
  command
    .option('-n, --namespace <name>', 'namespace of the agents', parseNamespace, MANIFEST_NAMESPACE)
    .option(
      '--kubeconfig <file>',
      'kubeconfig of the cluster (default: KUBECONFIG, ~/.kube/config, the service account of this pod)'
    )
    .option('--context <name>', 'context of the kubeconfig')
}

/** Returns the options for openKube (kube.ts). `timeoutMs`: the longest wait for one request. */
export function kubeOptionsOf(flags: KubeFlags, timeoutMs = REQUEST_MS): KubeOptions {
  return { kubeconfig: flags.kubeconfig, context: flags.context, timeoutMs }
}

/** Returns a name of RFC 1123, the rule of Kubernetes for namespaces. The name becomes a part of API paths. */
function parseNamespace(text: string): string {
  if (/^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/.test(text)) return text
  throw badArgument(
    '--namespace',
    `"${text}" is not a name of a namespace`,
    'use a DNS label: at most 63 of a-z 0-9 -'
  )
}
