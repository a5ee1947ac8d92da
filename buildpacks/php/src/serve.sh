#!/bin/bash
# Serves the app by nginx and FPM. Ends when one of them does; asked to end, it lets open requests come to theirs.
set -u
php=@PHP@
root="@ROOT@"
run="$(mktemp -d "${TMPDIR:-/tmp}/serve-php-XXXXXX")"
# Where it is root that runs apps, both would look for somebody else to work as.
as_root= fpm_user= nginx_user=
if [ "$(id -u)" = 0 ]; then as_root=--allow-to-run-as-root fpm_user="user = root" nginx_user="user root;"; fi
cat > "$run/fpm.conf" <<END
[global]
daemonize = no
error_log = $run/fpm.log
log_level = warning
process_control_timeout = 10
[www]
$fpm_user
listen = $run/fpm.sock
pm = ondemand
pm.max_children = ${PHP_FPM_CHILDREN:-8}
pm.process_idle_timeout = 60
pm.max_requests = 1000
clear_env = no
END
cat > "$run/nginx.conf" <<END
daemon off;
$nginx_user
worker_processes 1;
pid $run/nginx.pid;
error_log stderr warn;
events { worker_connections 1024; }
http {
  access_log off;
  server_tokens off;
  sendfile on;
  client_max_body_size 64m;
  client_body_temp_path $run/body;
  fastcgi_temp_path $run/fastcgi;
  proxy_temp_path $run/proxy;
  uwsgi_temp_path $run/uwsgi;
  scgi_temp_path $run/scgi;
  default_type application/octet-stream;
  types {
    text/html html htm; text/css css; text/plain txt; text/xml xml; text/javascript js mjs;
    application/json json map; application/pdf pdf; application/wasm wasm; application/zip zip;
    image/svg+xml svg svgz; image/png png; image/jpeg jpg jpeg; image/gif gif; image/webp webp; image/avif avif;
    image/x-icon ico; font/woff woff; font/woff2 woff2; font/ttf ttf; video/mp4 mp4; audio/mpeg mp3;
  }
  server {
    listen ${PORT:-8080};
    root "$root";
    index index.php index.html;
    # All files of a droplet bear the same time, so neither it nor a tag made of it says whether one changed.
    etag off;
    if_modified_since off;
    add_header Last-Modified "";
    # What is pushed for programs and not for people.
    location ~ /\.(?!well-known/) { return 404; }
    location ~ ^/(composer\.(json|lock)|vendor/|Procfile|manifest\.yml) { return 404; }
    location / { try_files \$uri \$uri/ /index.php\$is_args\$args; }
    location ~ ^(.+\.php)(/.*)?\$ {
      fastcgi_split_path_info ^(.+\.php)(/.*)\$;
      try_files \$fastcgi_script_name =404;
      fastcgi_pass unix:$run/fpm.sock;
      fastcgi_param SCRIPT_FILENAME \$document_root\$fastcgi_script_name;
      fastcgi_param SCRIPT_NAME \$fastcgi_script_name;
      fastcgi_param PATH_INFO \$fastcgi_path_info;
      fastcgi_param DOCUMENT_ROOT \$document_root;
      fastcgi_param DOCUMENT_URI \$document_uri;
      fastcgi_param REQUEST_URI \$request_uri;
      fastcgi_param REQUEST_METHOD \$request_method;
      fastcgi_param QUERY_STRING \$query_string;
      fastcgi_param CONTENT_TYPE \$content_type;
      fastcgi_param CONTENT_LENGTH \$content_length;
      fastcgi_param REMOTE_ADDR \$remote_addr;
      fastcgi_param SERVER_NAME \$host;
      fastcgi_param SERVER_PORT \$server_port;
      fastcgi_param SERVER_PROTOCOL \$server_protocol;
      fastcgi_param REQUEST_SCHEME \$http_x_forwarded_proto;
      fastcgi_param GATEWAY_INTERFACE CGI/1.1;
      fastcgi_param REDIRECT_STATUS 200;
      # A header of this name would become the proxy of programs that the app starts.
      fastcgi_param HTTP_PROXY "";
    }
  }
}
END
"$php/sbin/php-fpm@LINE@" --nodaemonize $as_root --fpm-config "$run/fpm.conf" -c "$php/etc/php.ini" &
fpm=$!
# Nginx asks for it with the first request; what was started before that would be told that it is not there.
for _ in $(seq 100); do [ -S "$run/fpm.sock" ] && break; kill -0 $fpm 2>/dev/null || break; sleep 0.05; done
"$php/sbin/nginx" -e stderr -c "$run/nginx.conf" &
nginx=$!
stopping=
trap 'stopping=1; kill -QUIT $nginx 2>/dev/null' TERM INT
wait -n $nginx $fpm
code=$?
if [ -n "$stopping" ]; then
  wait $nginx
  code=0
fi
kill -QUIT $fpm $nginx 2>/dev/null
wait
cat "$run/fpm.log" >&2 2>/dev/null
rm -rf "$run"
exit $code
