// The flags by which `init` and `join` say which prefixes a cluster really uses, where others stand for them in the mesh
// (docs/overlap.md), and how the two are shown.
import type { Command } from 'commander'
import type { JoinRequest } from '../../api/requests.ts'
import { collect, parsePrefix } from './arguments.ts'

/** The values of the flags. */
export interface RealPrefixOptions {
  readonly realPodCidr?: readonly string[]
  readonly realServiceCidr?: readonly string[]
  readonly translate?: boolean
}

/** Adds --real-pod-cidr and --real-service-cidr. `use` ends their help. */
export function withRealPrefixes(command: Command, use: string): Command {
  return command
    .option(
      '--real-pod-cidr <prefix>',
      `pod prefix that the cluster really uses, where another cluster of the mesh has the same addresses; ${use}`,
      collect('--real-pod-cidr', parsePrefix)
    )
    .option(
      '--real-service-cidr <prefix>',
      'service prefix that the cluster really uses, in the same way',
      collect('--real-service-cidr', parsePrefix)
    )
}

/** Adds the flags of a cluster that translates its own addresses. */
export function withTranslation(command: Command): Command {
  return withRealPrefixes(
    command,
    'the prefix of the mesh with the same length stands for it, and the gateways translate'
  ).option('--translate', 'the real prefixes are those that the Kubernetes API reports')
}

/** Returns the fields of the request; without the flags there are none. */
export function realPrefixFields({
  realPodCidr,
  realServiceCidr,
  translate
}: RealPrefixOptions): Omit<JoinRequest, 'token'> {
  return {
    ...(realPodCidr === undefined ? {} : { realPodCidrs: realPodCidr }),
    ...(realServiceCidr === undefined ? {} : { realServiceCidrs: realServiceCidr }),
    ...(translate === true ? { translate } : {})
  }
}

/** Lists prefixes of the mesh, each with the real one for which it stands: "10.128.0.0/16 (really 10.1.0.0/16)". */
export function prefixesText(
  prefixes: readonly string[],
  { translated = {} }: { readonly translated?: Readonly<Record<string, string>> }
): string {
  return prefixes
    .map((prefix) => {
      const real = translated[prefix]
      return real === undefined ? prefix : `${prefix} (really ${real})`
    })
    .join(', ')
}
