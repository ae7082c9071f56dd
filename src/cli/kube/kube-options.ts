// The options of `install` and `uninstall` that choose the cluster and the namespace.
import type { Command } from 'commander'
import { MANIFEST_NAMESPACE } from '../../core/kube/install.ts'
import { badArgument } from '../output/errors.ts'
import type { KubeOptions } from './kube.ts'

export interface KubeFlags {
  readonly kubeconfig?: string
  readonly context?: string
  readonly namespace: string
}

// For one request: the API server may have to write to members of etcd that are far apart.
const REQUEST_MS = 30_000

export function addKubeOptions(command: Command): void {
  command
    .option('-n, --namespace <name>', 'namespace of the agents', parseNamespace, MANIFEST_NAMESPACE)
    .option(
      '--kubeconfig <file>',
      'kubeconfig of the cluster (default: KUBECONFIG, ~/.kube/config, the service account of this pod)'
    )
    .option('--context <name>', 'context of the kubeconfig')
}

export function kubeOptionsOf(flags: KubeFlags): KubeOptions {
  return { kubeconfig: flags.kubeconfig, context: flags.context, timeoutMs: REQUEST_MS }
}

function parseNamespace(text: string): string {
  if (/^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/.test(text)) return text
  throw badArgument(
    '--namespace',
    `"${text}" is not a name of a namespace`,
    'use a DNS label: at most 63 of a-z 0-9 -'
  )
}
