import socket,sys,http.server
class S(http.server.HTTPServer): address_family=socket.AF_INET6
class H(http.server.BaseHTTPRequestHandler):
  def do_GET(s): s.send_response(200); s.end_headers(); s.wfile.write(("hi from "+sys.argv[1]+" saw "+s.client_address[0]+"\n").encode())
  def log_message(s,*a): pass
S((sys.argv[1],int(sys.argv[2])),H).serve_forever()
