// Nodes are leaves of the overlay: a node connects to gateways of its own cluster, and to no other agent. So the connections
// of a gateway grow with the clusters and not with their nodes. A certificate says which roles its agent may have.
import type { Credential } from '../members/credential.ts'
import { rejection, type Rejection } from './codes.ts'

/** Why two agents do not connect; undefined: they may. `own` undefined: this agent is a newcomer, and a gateway. */
export function leafRejection(own: Parties | undefined, peer: Parties): Rejection | undefined {
  const isGateway = ({ cert }: Parties): boolean => cert.roles.includes('gateway')
  if (own === undefined || (isGateway(own) && isGateway(peer))) return undefined
  if (own.clusterKey === peer.clusterKey && (isGateway(own) || isGateway(peer))) return undefined
  return rejection('leaf', 'one of the two agents is a node, and the other is no gateway of its cluster')
}

type Parties = Pick<Credential, 'clusterKey'> & { readonly cert: Pick<Credential['cert'], 'roles'> }
