// The Kubernetes API for `install` and `uninstall`. It uses the client of the agent (src/io/kube), because two clients
// would read a kubeconfig, a proxy or an answer differently, and turns its errors into CliErrors that name the flags of
// meshctl.
import { CodedError, codeOf } from '../../core/model/coded-error.ts'
import type { KubeApi } from '../../core/kube/kube-api.ts'
import { openKubeClient, type KubeClient } from '../../io/kube/client.ts'
import { CliError } from '../output/errors.ts'

/** The cluster to talk to. */
export interface KubeOptions {
  /** A path; undefined: KUBECONFIG, ~/.kube/config, then the service account of this pod. */
  readonly kubeconfig: string | undefined
  /** A context of the kubeconfig; undefined: its current one. */
  readonly context: string | undefined
  /** The longest wait for one request, in milliseconds. */
  readonly timeoutMs: number
}

/** The API of one cluster. `request` rejects with the CliErrors of openKube. */
export interface KubeTarget extends KubeApi {
  /** The URL of the API server, such as "https://10.0.0.1:6443", for questions and answers. */
  readonly server: string
}

/**
 * The API server answered with a status other than 2xx. `status` lets callers treat 403, 404 or 409 as expected
 * (hasStatus).
 */
class KubeStatusError extends CliError {
  readonly status: number

  constructor(status: number, { message }: Error) {
    const [code, fix] = EXPLAINED[status] ?? [
      'REFUSED_BY_KUBERNETES',
      'correct what the message of the API server names'
    ]
    super(code, message, fix)
    this.status = status
  }
}

// The codes and fixes of statuses that users meet. The code of any other status is REFUSED_BY_KUBERNETES.
const EXPLAINED: Readonly<Record<number, readonly [code: string, fix: string]>> = {
  401: ['UNAUTHORIZED', 'log in again: the credentials of the kubeconfig are not accepted'],
  403: [
    'FORBIDDEN',
    'use an account that may create cluster-wide objects, such as cluster-admin; or print the objects with --dry-run, and let an administrator apply them'
  ],
  404: ['NOT_IN_CLUSTER', 'check the name, and the version of Kubernetes'],
  409: ['CONFLICT', 'another client changed it at the same time: run the command again']
}
// Lists of the objects of one installation are small; the largest answer is the list of Nodes. A larger one is an
// error.
const ANSWER_BYTES_MAX = 16 * 1024 * 1024

/**
 * Reads the kubeconfig and returns the API; it sends nothing yet. Errors: CliError BAD_KUBECONFIG. Errors of a request:
 * KubeStatusError; CliError KUBERNETES_UNREACHABLE (exit code 3) when no valid answer came in time; BAD_KUBECONFIG when
 * the credentials cannot be read or the login helper failed.
 */
export async function openKube({ kubeconfig, context, timeoutMs }: KubeOptions): Promise<KubeTarget> {
  let client: KubeClient
  try {
    client = await openKubeClient({ kubeconfig, context, searches: true, userAgent: 'meshctl' })
  } catch (error) {
    throw badKubeconfig(causeOf(error))
  }
  const { server } = client
  return {
    server,
    async request(call) {
      try {
        return await client.request({ ...call, deadlineMs: timeoutMs, bytesMax: ANSWER_BYTES_MAX })
      } catch (error) {
        throw explained(error, server)
      }
    }
  }
}

/**
 * Returns the CliError for an error of the client. A status means that the server answered; everything else did not get
 * that far.
 */
function explained(error: unknown, server: string): CliError {
  if (error instanceof Error && 'status' in error && typeof error.status === 'number')
    return new KubeStatusError(error.status, error)
  const cause = causeOf(error)
  if (codeOf(error) === 'BAD_CONFIG' || (cause instanceof Error && cause.name === 'CredentialsError'))
    return badKubeconfig(cause)
  return new CliError(
    'KUBERNETES_UNREACHABLE',
    `cannot ask ${server}: ${reasonOf(cause)}`,
    'check the kubeconfig (--kubeconfig, --context) and the network',
    { cause: error }
  )
}

/**
 * Returns the cause of an error of src/io/kube, whose own fix is for agents and not for users; else the error itself.
 */
function causeOf(error: unknown): unknown {
  return error instanceof CodedError && error.cause !== undefined ? error.cause : error
}

/**
 * Returns the message of an error, or its name: the AggregateError of a connection that failed on all addresses has no
 * message.
 */
function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message || error.name : String(error)
}

function badKubeconfig(cause: unknown): CliError {
  return new CliError(
    'BAD_KUBECONFIG',
    `the kubeconfig cannot be used: ${reasonOf(cause)}`,
    'name one with --kubeconfig FILE (or KUBECONFIG), and a context of it with --context NAME',
    { cause }
  )
}
