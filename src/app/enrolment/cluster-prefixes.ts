// Compares the prefixes in a cluster's certificate with those that its Kubernetes API reports. Pure functions;
// prefix-check.ts calls them with what the source has found. An empty list of found prefixes means that they are not
// known.
import { cidrContains, cidrOverlaps, cidrToPrefix, familyOf, prefixToCidr } from '../../core/model/cidr.ts'
import type { Cidr, ClusterName } from '../../core/model/values.ts'
import { AppError } from '../observe/errors.ts'
import type { FoundPrefixes } from '../sources/source.ts'

/** The name and the prefixes that the certificate or the token gives a cluster. */
interface Certified {
  readonly cluster: ClusterName
  readonly podPrefixes: readonly Cidr[]
  readonly servicePrefixes: readonly Cidr[]
}

/**
 * Checks that a cluster may join with the prefixes of its token: of each kind, at least one found prefix overlaps a
 * certified one. A kind of which no prefix is known passes. Errors: AppError PREFIX_MISMATCH, whose fix has the invite
 * that fits.
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
    `ask for another token: ${inviteLine(certified, found)}; or, where another cluster has these prefixes, have the addresses translated: \`meshctl invite ${certified.cluster} ${realFlags(found)}\` there and \`meshctl join --translate\` here`
  )
}

/** Returns the found prefixes that lie in no certified prefix. Other clusters do not reach pods and services there. */
export function uncertified(certified: Certified, found: FoundPrefixes): readonly Cidr[] {
  const outside = (used: readonly Cidr[], given: readonly Cidr[]): readonly Cidr[] =>
    used.filter((cidr) => !given.some((prefix) => cidrContains(prefix, cidr)))
  return [
    ...outside(found.podPrefixes, certified.podPrefixes),
    ...outside(found.servicePrefixes, certified.servicePrefixes)
  ]
}

/** The command that an operator runs on the inviting agent to get a token with the prefixes that the cluster uses. */
export function inviteLine(certified: Certified, found: FoundPrefixes): string {
  const pods = found.podPrefixes.length > 0 ? wholeCluster(found) : certified.podPrefixes
  const services = found.servicePrefixes.length > 0 ? found.servicePrefixes : certified.servicePrefixes
  const flags = [
    ...pods.map((cidr) => `--pod-cidr ${cidr}`),
    ...services.map((cidr) => `--service-cidr ${cidr}`)
  ]
  return `meshctl invite ${certified.cluster} ${flags.join(' ')}`
}

/** The flags of an invite whose prefixes stand for those that the cluster uses. */
function realFlags(found: FoundPrefixes): string {
  const pods = wholeCluster(found).map((cidr) => `--real-pod-cidr ${cidr}`)
  return [...pods, ...found.servicePrefixes.map((cidr) => `--real-service-cidr ${cidr}`)].join(' ')
}

/**
 * Called by `init` without --pod-cidr, and by `join` and `init` with --translate and without --real-pod-cidr. Where only the pod prefixes of the present Nodes are known, the certificate
 * would leave out the Nodes that are added later, so the operator has to name the prefix. Errors: AppError
 * BAD_ARGUMENT.
 */
export function refuseNodesOnly(found: FoundPrefixes, field = 'pod-cidr'): void {
  if (found.isWholeCluster || found.podPrefixes.length === 0) return
  throw new AppError(
    'BAD_ARGUMENT',
    `${field}: the pod prefix of the whole cluster is not known; its present Nodes have ${list(found.podPrefixes)}, and the pods of a Node that is added later would be left out`,
    `name it, as the --cluster-cidr of kube-controller-manager has it: ${wholeCluster(found)
      .map((cidr) => `--${field} ${cidr}`)
      .join(' ')}, for example`
  )
}

// Prefix lengths that installers choose for a whole cluster whose Nodes have a /24 (IPv4) or a /64 (IPv6) each.
const CLUSTER_LENGTH = { 4: 16, 6: 56 } as const

/**
 * The probable pod prefixes of the whole cluster: those of the Nodes, shortened to CLUSTER_LENGTH. Only for examples in
 * messages.
 */
function wholeCluster(found: FoundPrefixes): readonly Cidr[] {
  if (found.isWholeCluster) return found.podPrefixes
  const wider = found.podPrefixes.map((cidr) => {
    const { address, length } = cidrToPrefix(cidr)
    const shorter = Math.min(length, CLUSTER_LENGTH[familyOf(cidr)])
    // Both values of CLUSTER_LENGTH are whole bytes. A Node prefix that is already shorter keeps its length.
    const network = address.map((byte, at) => (at < shorter / 8 ? byte : 0))
    return prefixToCidr({ address: network, length: shorter }) ?? cidr
  })
  return [...new Set(wider)]
}

function list(cidrs: readonly Cidr[]): string {
  return cidrs.length === 0 ? 'none' : cidrs.join(', ')
}
