<?php
$name = $_GET['env'] ?? null;
if ($name !== null) {
    echo $name, '=', getenv($name), "\n";
} else {
    echo 'Hello from PHP ', PHP_VERSION, ' at ', $_SERVER['REQUEST_URI'], "\n";
}
