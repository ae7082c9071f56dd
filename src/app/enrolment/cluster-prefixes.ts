// The prefixes that a cluster is certified for, beside those that it really uses. Pure.
import { cidrContains, cidrOverlaps, cidrToPrefix, familyOf, prefixToCidr } from '../../core/model/cidr.ts'
import type { Cidr, ClusterName } from '../../core/model/values.ts'
import { AppError } from '../observe/errors.ts'
import type { FoundPrefixes } from '../sources/source.ts'

interface Certified {
  readonly cluster: ClusterName
  readonly podPrefixes: readonly Cidr[]
  readonly servicePrefixes: readonly Cidr[]
}

/**
 * Whether a cluster may join with the prefixes of its token. A cluster whose prefixes are not known, or a folder, may: found is empty.
 * Errors: AppError PREFIX_MISMATCH, with the invite that fits.
 */
export function checkCertified(certified: Certified, found: FoundPrefixes): void {
  const isInside = (used: readonly Cidr[], given: readonly Cidr[]): boolean =>
    used.length === 0 || used.some((cidr) => given.some((prefix) => cidrOverlaps(prefix, cidr)))
  const arePodsInside = isInside(found.podPrefixes, certified.podPrefixes)
  const areServicesInside = isInside(found.servicePrefixes, certified.servicePrefixes)
  if (arePodsInside && areServicesInside) return
  const wrong = [
    ...(arePodsInside
      ? []
      : [`pods ${list(certified.podPrefixes)}, but its pods are in ${list(found.podPrefixes)}`]),
    ...(areServicesInside
      ? []
      : [
          `services ${list(certified.servicePrefixes)}, but its services are in ${list(found.servicePrefixes)}`
        ])
  ]
  throw new AppError(
    'PREFIX_MISMATCH',
    `the token gives this cluster ${wrong.join('; and ')}`,
    `ask for another token: ${inviteLine(certified, found)}`
  )
}

/** Prefixes in use that the certificate does not have: their pods and services are not reached. */
export function uncertified(certified: Certified, found: FoundPrefixes): readonly Cidr[] {
  const outside = (used: readonly Cidr[], given: readonly Cidr[]): readonly Cidr[] =>
    used.filter((cidr) => !given.some((prefix) => cidrContains(prefix, cidr)))
  return [
    ...outside(found.podPrefixes, certified.podPrefixes),
    ...outside(found.servicePrefixes, certified.servicePrefixes)
  ]
}

/** The command that a member types for this cluster. */
export function inviteLine(certified: Certified, found: FoundPrefixes): string {
  const pods = found.podPrefixes.length > 0 ? wholeCluster(found) : certified.podPrefixes
  const services = found.servicePrefixes.length > 0 ? found.servicePrefixes : certified.servicePrefixes
  const flags = [
    ...pods.map((cidr) => `--pod-cidr ${cidr}`),
    ...services.map((cidr) => `--service-cidr ${cidr}`)
  ]
  return `meshctl invite ${certified.cluster} ${flags.join(' ')}`
}

/** For `init` without --pod-cidr. Errors: AppError BAD_ARGUMENT where only those of today's Nodes are known. */
export function refuseNodesOnly(found: FoundPrefixes): void {
  if (found.isWholeCluster || found.podPrefixes.length === 0) return
  throw new AppError(
    'BAD_ARGUMENT',
    `pod-cidr: the pod prefix of the whole cluster is not known; its Nodes of today have ${list(found.podPrefixes)}, and the pods of a Node that is added later would be left out`,
    `name it, as the --cluster-cidr of kube-controller-manager has it: ${wholeCluster(found)
      .map((cidr) => `--pod-cidr ${cidr}`)
      .join(' ')}, for example`
  )
}

// What installers choose for a cluster whose Nodes have a /24 (IPv4) or a /64 (IPv6) each.
const CLUSTER_LENGTH = { 4: 16, 6: 56 } as const

function wholeCluster(found: FoundPrefixes): readonly Cidr[] {
  if (found.isWholeCluster) return found.podPrefixes
  const wider = found.podPrefixes.map((cidr) => {
    const { address, length } = cidrToPrefix(cidr)
    const shorter = Math.min(length, CLUSTER_LENGTH[familyOf(cidr)])
    // Both lengths are whole bytes.
    const network = address.map((byte, at) => (at < shorter / 8 ? byte : 0))
    return prefixToCidr({ address: network, length: shorter }) ?? cidr
  })
  return [...new Set(wider)]
}

function list(cidrs: readonly Cidr[]): string {
  return cidrs.length === 0 ? 'none' : cidrs.join(', ')
}
